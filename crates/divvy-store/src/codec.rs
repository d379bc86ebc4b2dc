//! How our words are written in the tables, and read back. Reading fails with what is wrong, for the error's detail.

use divvy_core::{
    chat::Finish,
    digest::Digest,
    records::{ItemState, Stage},
};

use crate::rows::{MOST_TOKENS, RunStatus};

/// What a column of tokens adds to a sum, where [`tokens`] knows it.
macro_rules! counted {
    ($column:literal) => {
        concat!("CASE WHEN ", $column, " <= 1099511627776 THEN ", $column, " ELSE 0 END")
    };
}
/// Whether both columns of a row's tokens are unknown or none.
macro_rules! unknown_usage {
    () => {
        "(tokens_in <= 1099511627776 AND tokens_out <= 1099511627776) IS NOT TRUE"
    };
}
pub(crate) use {counted, unknown_usage};

/// A column of tokens as it is read: an earlier version kept whatever an endpoint said.
pub(crate) fn tokens(column: Option<i64>) -> Option<u64> {
    column.map(i64::unsigned_abs).filter(|tokens| *tokens <= MOST_TOKENS)
}

/// A row that means nothing to us: the store is damaged or was edited.
pub(crate) fn undecodable(detail: String) -> sqlx::Error {
    sqlx::Error::Decode(detail.into())
}

/// The 32 bytes of a digest.
pub(crate) fn blob(digest: &Digest) -> Vec<u8> {
    digest.bytes().to_vec()
}

pub(crate) fn digest(bytes: &[u8]) -> Result<Digest, sqlx::Error> {
    let whole = bytes.try_into().map_err(|_| undecodable(format!("a digest has 32 bytes, not {}", bytes.len())))?;
    Ok(Digest::from_bytes(whole))
}

/// Several digests behind one another.
pub(crate) fn blobs(digests: &[Digest]) -> Vec<u8> {
    digests.iter().flat_map(Digest::bytes).copied().collect()
}

pub(crate) fn digests(bytes: &[u8]) -> Result<Vec<Digest>, sqlx::Error> {
    bytes.chunks(32).map(digest).collect()
}

pub(crate) fn state_text(state: &ItemState) -> (&'static str, Option<String>) {
    (state.name(), state.reason().map(str::to_owned))
}

pub(crate) fn state(name: &str, reason: Option<String>) -> Result<ItemState, sqlx::Error> {
    match name {
        "pending" => Ok(ItemState::Pending),
        "done" => Ok(ItemState::Done),
        "failed" => Ok(ItemState::Failed(reason.unwrap_or_default())),
        "rejected" => Ok(ItemState::Rejected(reason.unwrap_or_default())),
        other => Err(undecodable(format!("`{other}` is no state of an item"))),
    }
}

pub(crate) fn stage(name: &str) -> Result<Stage, sqlx::Error> {
    [Stage::Collect, Stage::Screen, Stage::Train, Stage::Evaluate, Stage::Judge]
        .into_iter()
        .find(|stage| stage.name() == name)
        .ok_or_else(|| undecodable(format!("`{name}` is no stage")))
}

/// A provider's own reason is kept behind `other:`, so that it can never be taken for one of ours.
pub(crate) fn finish_text(finish: &Finish) -> String {
    match finish {
        Finish::Stop => "stop".to_owned(),
        Finish::Length => "length".to_owned(),
        Finish::Other(reason) => format!("other:{reason}"),
    }
}

pub(crate) fn finish(text: &str) -> Result<Finish, sqlx::Error> {
    match text {
        "stop" => Ok(Finish::Stop),
        "length" => Ok(Finish::Length),
        _ => match text.strip_prefix("other:") {
            Some(reason) => Ok(Finish::Other(reason.to_owned())),
            None => Err(undecodable(format!("`{text}` is no finish reason"))),
        },
    }
}

pub(crate) fn status_text(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Running => "running",
        RunStatus::Done => "done",
        RunStatus::Failed => "failed",
        RunStatus::Stopped => "stopped",
        RunStatus::Interrupted => "interrupted",
    }
}

pub(crate) fn status(text: &str) -> Result<RunStatus, sqlx::Error> {
    use RunStatus::{Done, Failed, Interrupted, Running, Stopped};
    [Running, Done, Failed, Stopped, Interrupted]
        .into_iter()
        .find(|&status| status_text(status) == text)
        .ok_or_else(|| undecodable(format!("`{text}` is no status of a run")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back() {
        let d = Digest::of_bytes(b"x");
        assert_eq!(digest(&blob(&d)).unwrap(), d);
        assert_eq!(digests(&blobs(&[d.clone(), d.clone()])).unwrap(), [d.clone(), d]);
        assert!(digests(&[1, 2, 3]).is_err());
        for f in [Finish::Stop, Finish::Length, Finish::Other("stop".into()), Finish::Other(String::new())] {
            assert_eq!(finish(&finish_text(&f)).unwrap(), f);
        }
        for s in [ItemState::Pending, ItemState::Done, ItemState::Failed("a".into()), ItemState::Rejected("b".into())] {
            let (name, reason) = state_text(&s);
            assert_eq!(state(name, reason).unwrap(), s);
        }
        assert_eq!(stage("evaluate").unwrap(), Stage::Evaluate);
        assert!(stage("cook").is_err());
        assert_eq!(status(status_text(RunStatus::Stopped)).unwrap(), RunStatus::Stopped);
    }
}
