//! A streamed completion: server-sent events, each a piece of the reply, then `[DONE]`. Text goes on as it comes; the
//! bytes are kept together and go on before the end, so that what is on record can be read again.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use divvy_core::chat::Reply;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio_util::sync::CancellationToken;

use super::{
    MOST_BYTES,
    key::ApiKey,
    refusal::Place,
    wire::{self, Piece},
};
use crate::{
    chat::{Delta, Deltas},
    error::{ChatError, ErrorKind},
};

/// Is this body a stream of events rather than one JSON object?
pub(super) fn looks_like(raw: &[u8]) -> bool {
    let start = raw.trim_ascii_start();
    start.starts_with(b"data:") || start.starts_with(b":") || start.starts_with(b"event:")
}

/// The whole reply of a kept stream.
pub(super) fn read(raw: &[u8], place: &Place) -> Result<Reply, ChatError> {
    let mut events = Events::default();
    events.feed(raw, place)?;
    events.close(place)?;
    if events.done { wire::reply(events.whole, place) } else { Err(place.ended_early()) }
}

/// Reads events out of bytes that may be cut anywhere.
#[derive(Default)]
struct Events {
    /// The bytes of a line that is not complete yet, and how many of them were searched for its end.
    rest: BytesMut,
    searched: usize,
    whole: Piece,
    fresh: VecDeque<String>,
    /// The end of the text, as long as it may be the beginning of a secret that the next event goes on with. In the bytes that
    /// are kept such a one stays in two halves, as it came.
    held: String,
    done: bool,
}

impl Events {
    fn feed(&mut self, bytes: &[u8], place: &Place) -> Result<(), ChatError> {
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest[self.searched..].iter().position(|&b| b == b'\n') {
            let line = self.rest.split_to(self.searched + end + 1);
            self.searched = 0;
            self.line(line.trim_ascii(), place)?;
        }
        self.searched = self.rest.len();
        Ok(())
    }

    /// Nothing follows. Some servers close the connection behind the last piece and send no `[DONE]`.
    fn close(&mut self, place: &Place) -> Result<(), ChatError> {
        if !self.done {
            let last = self.rest.split();
            self.searched = 0;
            match self.line(last.trim_ascii(), place) {
                // Half an event behind the model's last word: of its figures.
                Err(error) if error.kind == ErrorKind::Unreadable && self.whole.finish.is_some() => {}
                read => read?,
            }
            self.done |= self.whole.finish.is_some();
        }
        self.release(0);
        Ok(())
    }

    /// Comments, blank lines and other fields than `data` say nothing to us.
    fn line(&mut self, line: &[u8], place: &Place) -> Result<(), ChatError> {
        let Some(data) = line.strip_prefix(b"data:") else { return Ok(()) };
        let data = data.trim_ascii();
        if data == b"[DONE]" {
            self.done = true;
            self.release(0);
            return Ok(());
        }
        let piece = wire::piece(&place.without_key(data), place)?;
        if !piece.text.is_empty() {
            let text = std::mem::take(&mut self.held) + &piece.text;
            self.held = String::from_utf8_lossy(&place.without_key(text.as_bytes())).into_owned();
            self.release(place.begun_in(&self.held));
        }
        self.whole.thought |= piece.thought;
        self.whole.refused |= piece.refused;
        self.whole.finish = piece.finish.or(self.whole.finish.take());
        self.whole.usage = piece.usage.or(self.whole.usage);
        Ok(())
    }
}

impl Events {
    /// Hands on what is held but for so many bytes.
    fn release(&mut self, but: usize) {
        let rest = self.held.split_off(self.held.len() - but);
        let text = std::mem::replace(&mut self.held, rest);
        if !text.is_empty() {
            self.whole.text.push_str(&text);
            self.fresh.push_back(text);
        }
    }
}

struct Reading {
    chunks: BoxStream<'static, Result<Bytes, ChatError>>,
    place: Place,
    cancel: CancellationToken,
    events: Events,
    raw: BytesMut,
    /// What is still to be handed on at the end.
    last: VecDeque<Result<Delta, ChatError>>,
    ended: bool,
}

pub(super) fn deltas(
    chunks: BoxStream<'static, Result<Bytes, ChatError>>,
    place: Place,
    cancel: CancellationToken,
) -> Deltas {
    let reading = Reading {
        chunks,
        place,
        cancel,
        events: Events::default(),
        raw: BytesMut::new(),
        last: VecDeque::new(),
        ended: false,
    };
    stream::unfold(reading, |mut reading| async move { reading.next().await.map(|delta| (delta, reading)) }).boxed()
}

impl Reading {
    async fn next(&mut self) -> Option<Result<Delta, ChatError>> {
        loop {
            if let Some(text) = self.events.fresh.pop_front() {
                return Some(Ok(Delta::Text(text)));
            }
            if self.events.done && !self.ended {
                self.end();
            }
            if self.ended {
                return self.last.pop_front();
            }
            match self.more().await {
                // Thoughts are not text, but whoever waits should know that there are some.
                Ok(true) if self.events.fresh.is_empty() && !self.events.done => {
                    return Some(Ok(Delta::Text(String::new())));
                }
                Ok(_) => {}
                Err(error) => return Some(self.broken(error)),
            }
        }
    }

    /// Whether an event came; a comment that keeps the connection open is none.
    async fn more(&mut self) -> Result<bool, ChatError> {
        let chunk = self.cancel.run_until_cancelled(self.chunks.next()).await.ok_or_else(ChatError::cancelled);
        let chunk = match chunk.and_then(Option::transpose) {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return self.close().map(|()| false),
            // The model has said that it is done, and figures alone are missing: read again, what came is the reply.
            Err(_) if self.events.whole.finish.is_some() => return self.close().map(|()| false),
            Err(error) => return Err(error),
        };
        self.raw.extend_from_slice(&chunk);
        if self.raw.len() > MOST_BYTES {
            let error = self.place.unreadable(&self.raw, "it does not end");
            // What is no reply at this length is not worth keeping.
            self.raw.clear();
            return Err(error);
        }
        self.events.feed(&chunk, &self.place)?;
        Ok(chunk.windows(5).any(|bytes| bytes == b"data:"))
    }

    /// The stream ended by itself: whole, early, or it never was one.
    fn close(&mut self) -> Result<(), ChatError> {
        if !self.raw.is_empty() && !looks_like(&self.raw) {
            // A server that does not stream sends the reply in one piece, or its error.
            let piece = wire::piece(&self.place.without_key(&self.raw), &self.place)?;
            self.events.fresh.push_back(piece.text.clone());
            (self.events.whole, self.events.done) = (piece, true);
            return Ok(());
        }
        self.events.close(&self.place)?;
        if self.events.done { Ok(()) } else { Err(self.place.ended_early()) }
    }

    /// What came is kept before anybody hears that it is no reply. Read again, it is none either: nothing says that it ended.
    fn broken(&mut self, error: ChatError) -> Result<Delta, ChatError> {
        self.ended = true;
        self.events.fresh.clear();
        if self.raw.is_empty() {
            return Err(error);
        }
        self.last.push_back(Err(error));
        Ok(Delta::Raw(self.came()))
    }

    fn came(&mut self) -> Bytes {
        self.place.bytes_without_key(self.raw.split().freeze())
    }

    fn end(&mut self) {
        self.ended = true;
        let raw = self.came();
        self.last.push_back(Ok(Delta::Raw(raw)));
        self.last.push_back(match wire::reply(std::mem::take(&mut self.events.whole), &self.place) {
            Ok(reply) => Ok(Delta::Done { finish: reply.finish, usage: reply.usage }),
            Err(error) => Err(error),
        });
    }
}

/// Events are read the same whole and in pieces of `size` bytes, and a kept body is read again or refused: for property
/// tests and `fuzz/`.
pub(crate) fn same_however_cut(bytes: &[u8], size: usize) {
    let place = Place::new("http://x/v1", "m".into(), ApiKey::None).expect("it is a URL, and needs no key");
    let (mut whole, mut cut) = (Events::default(), Events::default());
    let at_once = whole.feed(bytes, &place).is_ok();
    let in_pieces = bytes.chunks(size).try_for_each(|piece| cut.feed(piece, &place)).is_ok();
    assert_eq!(at_once, in_pieces);
    assert_eq!((&whole.whole.text, whole.done), (&cut.whole.text, cut.done));
    let _ = if looks_like(bytes) { read(bytes, &place) } else { wire::read(bytes, &place) };
}

#[cfg(test)]
mod tests {
    use divvy_core::chat::Finish;

    use super::*;

    #[tokio::test]
    async fn thoughts_are_signs_of_life_and_comments_are_not() {
        let chunks = [
            ": keep-alive\n\n",
            "data: {\"choices\": [{\"delta\": {\"reasoning_content\": \"hm\"}}]}\n\n",
            "data: {\"choices\": [{\"delta\": {\"content\": \"42\"}, \"finish_reason\": \"stop\"}]}\n\n",
            "data: [DONE]\n\n",
        ];
        let place = Place::new("http://x/v1", "m".into(), ApiKey::None).unwrap();
        let chunks = stream::iter(chunks.map(|chunk| Ok(Bytes::from_static(chunk.as_bytes())))).boxed();
        let deltas: Vec<_> = deltas(chunks, place, CancellationToken::new()).collect().await;
        let texts: Vec<&str> = deltas
            .iter()
            .filter_map(|delta| if let Ok(Delta::Text(text)) = delta { Some(&**text) } else { None })
            .collect();
        assert_eq!(texts, ["", "42"]);
        assert!(matches!(deltas.last(), Some(Ok(Delta::Done { .. }))), "{deltas:?}");
    }

    #[test]
    fn a_part_of_a_stream_is_never_read_as_a_whole_reply() {
        let events = [
            "data: {\"choices\": [{\"delta\": {\"content\": \"four \"}}]}\n\n",
            "data: {\"choices\": [{\"delta\": {\"content\": \"two\"}, \"finish_reason\": null}]}\n\n",
            "data: {\"choices\": [{\"delta\": {}, \"finish_reason\": \"stop\"}]}\n\n",
            "data: {\"choices\": [], \"usage\": {\"prompt_tokens\": 3, \"completion_tokens\": 2}}\n\n",
            "data: [DONE]\n\n",
        ];
        let place = Place::new("http://x/v1", "m".into(), ApiKey::None).unwrap();
        let whole = events.concat();
        // The model says with the third that it is done; from there on only its figures are missing.
        let said = events[..3].concat().trim_end().len();
        for cut in 0..=whole.len() {
            let part = &whole.as_bytes()[..cut];
            let reply = if looks_like(part) { read(part, &place) } else { wire::read(part, &place) };
            assert!(cut >= said || reply.is_err(), "{cut}: {reply:?}");
            assert!(reply.is_ok_and(|reply| reply.text == "four two") || cut < whole.len(), "{cut}");
        }
    }

    #[tokio::test]
    async fn what_came_before_a_stream_broke_is_handed_on_and_then_the_error() {
        let place = Place::new("http://x/v1", "m".into(), ApiKey::None).unwrap();
        let good = "data: {\"choices\": [{\"delta\": {\"content\": \"4\"}}]}\n\n";
        for bad in [Ok("data: {\"choi\n\n"), Err(place.ended_early())] {
            let kept = format!("{good}{}", bad.as_ref().copied().unwrap_or_default());
            let chunks = [Ok(good), bad].map(|chunk| chunk.map(|chunk| Bytes::from_static(chunk.as_bytes())));
            let deltas = deltas(stream::iter(chunks).boxed(), place.clone(), CancellationToken::new());
            let deltas: Vec<_> = deltas.collect().await;
            assert_eq!(deltas[..2], [Ok(Delta::Text("4".into())), Ok(Delta::Raw(kept.into()))]);
            assert!(deltas.len() == 3 && deltas[2].is_err(), "{deltas:?}");
        }
    }

    /// The connection breaks, or nobody waits any longer; before the figures, or in the middle of them.
    #[tokio::test]
    async fn a_stream_that_breaks_behind_its_last_word_is_the_reply_as_which_it_would_be_read() {
        let place = Place::new("http://x/v1", "m".into(), ApiKey::None).unwrap();
        let said = "data: {\"choices\": [{\"delta\": {\"content\": \"4\"}, \"finish_reason\": \"stop\"}]}\n\n";
        let half = "data: {\"choices\": [], \"usage\": {\"prompt_tok";
        for (rest, given_up) in [("", false), ("", true), (half, false), (half, true)] {
            let (cancel, broken) = (CancellationToken::new(), place.ended_early());
            let stop = cancel.clone();
            let then = stream::once(async move {
                if given_up {
                    stop.cancel();
                    std::future::pending::<()>().await;
                }
                Err::<Bytes, _>(broken)
            });
            let chunks = [said, rest].map(|chunk| Ok(Bytes::from_static(chunk.as_bytes())));
            let deltas = deltas(stream::iter(chunks).chain(then).boxed(), place.clone(), cancel);
            let deltas: Vec<_> = deltas.collect().await;
            let kept = deltas.iter().find_map(|delta| if let Ok(Delta::Raw(raw)) = delta { Some(raw) } else { None });
            let again = read(kept.unwrap(), &place).unwrap();
            assert_eq!((again.text.as_str(), &again.finish), ("4", &Finish::Stop));
            assert_eq!(deltas[0], Ok(Delta::Text("4".into())));
            let done = Delta::Done { finish: again.finish, usage: again.usage };
            assert_eq!(deltas.last(), Some(&Ok(done)), "{rest:?} {given_up}");
        }
        // What the endpoint itself broke off is none.
        let chunks = [Ok(Bytes::from(said.replace("stop", "abort"))), Err(place.ended_early())];
        let deltas = deltas(stream::iter(chunks).boxed(), place, CancellationToken::new());
        let deltas: Vec<_> = deltas.collect().await;
        assert!(deltas.last().unwrap().as_ref().is_err_and(|error| error.kind == ErrorKind::CutOff), "{deltas:?}");
    }

    #[tokio::test]
    async fn a_stream_that_does_not_end_is_given_up_at_the_length_of_a_whole_body_and_not_kept() {
        let place = Place::new("http://x/v1", "m".into(), ApiKey::None).unwrap();
        let begin = "data: {\"choices\": [{\"delta\": {\"content\": \"for ever\"}}]}\n\n";
        let more = Bytes::from(vec![b'.'; MOST_BYTES / 16]);
        let chunks = stream::iter([Ok(Bytes::from(begin))]).chain(stream::repeat(Ok(more)));
        let deltas: Vec<_> = deltas(chunks.boxed(), place, CancellationToken::new()).collect().await;
        let [Ok(Delta::Text(text)), Err(error)] = &deltas[..] else { panic!("{} deltas", deltas.len()) };
        assert_eq!((&**text, error.kind), ("for ever", ErrorKind::Unreadable));
        assert!(error.message.contains("it does not end"), "{error}");
    }

    #[test]
    fn a_line_that_comes_in_pieces_is_searched_once() {
        let place = Place::new("http://x/v1", "m".into(), ApiKey::None).unwrap();
        let (mut events, line) = (Events::default(), b"data: {\"choices\": [{\"delta\": {\"content\": \"42\"}}]}");
        for piece in line.chunks(7) {
            events.feed(piece, &place).unwrap();
            assert_eq!(events.searched, events.rest.len(), "nothing of it is looked at again");
        }
        assert_eq!(events.searched, line.len());
        events.feed(b"\ndata: [DO", &place).unwrap();
        assert_eq!((events.whole.text.as_str(), events.searched), ("42", 9));
        events.feed(b"NE]\n", &place).unwrap();
        assert!(events.done && events.searched == 0);
    }

    /// A place whose key is nobody's.
    fn locked() -> Place {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "sk-secret/4711").unwrap();
        Place::new("http://x/v1", "m".into(), ApiKey::File(file.path().to_owned())).unwrap()
    }

    #[tokio::test]
    async fn a_key_that_comes_in_pieces_is_told_to_nobody() {
        let place = locked();
        let event =
            |text: &str| format!("data: {}\n\n", serde_json::json!({"choices": [{"delta": {"content": text}}]}));
        for (pieces, heard) in [
            (&["is sk-se", "cret/4711", ", see"][..], "is [redacted], see"),
            (&["s", "k", "-", "secret/471", "1"], "[redacted]"),
            (&["sk-", "sk-secret/4711sk-sec"], "sk-[redacted]sk-sec"),
            (&["ask-", "ed and s"], "ask-ed and s"),
        ] {
            let whole = pieces.iter().map(|piece| event(piece)).collect::<String>() + "data: [DONE]\n\n";
            let chunks = stream::iter([Ok(Bytes::from(whole.clone()))]).boxed();
            let deltas: Vec<_> = deltas(chunks, place.clone(), CancellationToken::new()).collect().await;
            let texts =
                deltas.iter().filter_map(|delta| if let Ok(Delta::Text(text)) = delta { Some(&**text) } else { None });
            assert_eq!(texts.collect::<String>(), heard);
            assert_eq!(read(whole.as_bytes(), &place).unwrap().text, heard, "read again");
            // The connection closes without a last event.
            let cut = event(pieces[0]) + "data: {\"choices\": [{\"delta\": {}, \"finish_reason\": \"stop\"}]}";
            assert_eq!(read(cut.as_bytes(), &place).unwrap().text, pieces[0]);
        }
    }

    /// Lines of events, good and bad, and noise.
    fn line() -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
        use proptest::prelude::*;
        prop_oneof![
            "[a-zé\\\\\"{}]{0,12}".prop_map(|text| {
                format!("data: {}\n\n", serde_json::json!({"choices": [{"delta": {"content": text}}]})).into_bytes()
            }),
            Just(b"data: [DONE]\n\n".to_vec()),
            Just(b": keep-alive\r\n\r\n".to_vec()),
            Just(b"data: {\"choices\": [], \"usage\": {\"prompt_tokens\": 3}}\n\n".to_vec()),
            Just(b"data: {\"choices\": [{\"delta\": {\"content\": 7}}]}\n".to_vec()),
            Just(b"data: {\"error\": {\"code\": 99999999999}}\n".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..40),
        ]
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_however_it_is_cut_is_read_the_same(
            lines in proptest::collection::vec(line(), 0..12),
            size in 1_usize..50,
        ) {
            same_however_cut(&lines.concat(), size);
        }
    }
}
