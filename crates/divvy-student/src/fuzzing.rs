//! What `fuzz/` reaches of this crate beside what opens a model. Nobody else's business.

use std::path::Path;

/// A checkpoint of training in `folder`: a run goes on from there, or there is a reason why not. The run that it is of has the
/// fingerprint `run` and one parameter, `w`, of two rows of three.
///
/// # Panics
/// When an error has no words.
pub fn checkpoint(folder: &Path) {
    if let Err(error) = crate::train::checkpoint::read_any(folder) {
        assert!(!error.to_string().is_empty());
    }
}
