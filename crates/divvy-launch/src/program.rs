//! The Python program that trains, as it is shipped, and what it needs installed.

pub(crate) const TRAIN: &str = include_str!("train.py");

/// The packages of its header (PEP 723), each with its one version.
pub(crate) fn requirements() -> Vec<&'static str> {
    let header = TRAIN.lines().take_while(|line| line.starts_with('#'));
    let quoted = header.filter_map(|line| line.strip_prefix("#     \"")?.split(['"', ';']).next());
    quoted.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_requirement_is_pinned() {
        let requirements = requirements();
        assert!(requirements.iter().any(|line| line.starts_with("trl==")), "{requirements:?}");
        assert!(requirements.iter().all(|line| line.split_once("==").is_some_and(|(_, version)| version.len() > 3)));
    }
}
