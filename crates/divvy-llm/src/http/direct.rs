//! Requests that neither TLS nor a proxy stands in the way of, as to a server on this machine or in the next room: hyper's
//! client by itself. reqwest parses the address anew and copies the headers several times for each request (LOG.md, "A collected
//! row without reqwest"). On the wire both say the same. What else is asked of an endpoint, its models and its batches, goes
//! through reqwest everywhere.

use std::{error::Error, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri, body::Incoming};
use hyper_util::{
    client::{
        legacy::{Client, connect::HttpConnector},
        proxy::matcher::Matcher,
    },
    rt::{TokioExecutor, TokioTimer},
};

use super::CONNECT_TIMEOUT;

/// As long as reqwest's.
const IDLE: Duration = Duration::from_secs(90);
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_RETRIES: u32 = 3;
/// What was sent and is not acknowledged by then has met a dead host.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// Why an exchange came to nothing, from whichever client.
pub(super) type Cause = Box<dyn Error + Send + Sync>;

pub(super) struct Direct {
    client: Client<HttpConnector, Full<Bytes>>,
    uri: Uri,
}

impl Direct {
    /// `None` where TLS or a proxy stands between, or a password in the address.
    pub(super) fn to(url: &reqwest::Url) -> Option<Self> {
        let uri: Uri = url.as_str().parse().ok()?;
        let plain = url.scheme() == "http" && url.username().is_empty() && url.password().is_none();
        if !plain || Matcher::from_system().intercept(&uri).is_some() {
            return None;
        }
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector());
        Some(Self { client, uri })
    }

    pub(super) async fn post(&self, headers: HeaderMap, body: Vec<u8>) -> Result<Answer, Cause> {
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        Ok(Answer::Direct(self.client.request(request).await?))
    }
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_nodelay(true);
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_keepalive_interval(Some(KEEPALIVE));
    connector.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    #[cfg(target_os = "linux")]
    connector.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    connector
}

/// The head of an answer, and the body as it comes.
pub(super) enum Answer {
    Direct(Response<Incoming>),
    Other(reqwest::Response),
}

impl From<reqwest::Response> for Answer {
    fn from(response: reqwest::Response) -> Self {
        Self::Other(response)
    }
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Direct(response) => response.status(),
            Self::Other(response) => response.status(),
        }
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        match self {
            Self::Direct(response) => response.headers(),
            Self::Other(response) => response.headers(),
        }
    }

    /// The next piece of the body; `None` at its end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Cause> {
        let response = match self {
            Self::Direct(response) => response,
            Self::Other(response) => return Ok(response.chunk().await?),
        };
        while let Some(frame) = response.body_mut().frame().await {
            // Trailers say nothing to us.
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    pub(super) fn chunks(self) -> BoxStream<'static, Result<Bytes, Cause>> {
        match self {
            Self::Direct(response) => response.into_body().into_data_stream().map(|chunk| Ok(chunk?)).boxed(),
            Self::Other(response) => response.bytes_stream().map(|chunk| Ok(chunk?)).boxed(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_and_a_password_in_the_address_are_left_to_reqwest() {
        for url in ["https://127.0.0.1/v1/chat/completions", "http://me:secret@127.0.0.1/v1/chat/completions"] {
            assert!(Direct::to(&url.parse().unwrap()).is_none(), "{url}");
        }
    }
}
