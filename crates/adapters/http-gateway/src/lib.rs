//! What adapters to gateways over HTTP have in common: an exchange that is bounded in time and size, goes to nobody
//! else, and whose failure is sorted into the outcomes of the SMS port.
//!
//! What a request looks like and what an answer says are each gateway's own, and not here. Adapters do not see each
//! other; this is below them.

mod answer;
mod tls;

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, Url, redirect};
use vestibule_port_sms::SmsError;

pub use answer::Answer;

/// How long a message may take by default, all in all.
pub const TIMEOUT: Duration = Duration::from_secs(8);

/// The port's bound on a call.
const MAX_TIMEOUT: Duration = Duration::from_secs(10);
/// A gateway that takes longer to reach is down, and nothing has been sent yet.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The documents of gateways have about 1 KiB. More than this, in bytes, is not read.
const MAX_ANSWER: usize = 64 * 1024;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The time-out is less than 1 ms or more than 10 s.
    #[error("the time-out is not between 1 ms and 10 s")]
    Timeout,
    /// The URL is `https`, and the system has no root certificates to check it with.
    #[error("the system has no root certificates")]
    NoRoots,
    /// The HTTP client cannot be set up.
    #[error("the HTTP client cannot be set up")]
    Client(#[source] reqwest::Error),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// A client of one gateway. It keeps connections open between messages.
#[derive(Debug)]
pub struct GatewayClient {
    client: Client,
    url: Url,
}

impl GatewayClient {
    /// A client that posts to `url` and gives a whole exchange this long, 10 s at most. It reads the system's root
    /// certificates; nothing is sent.
    pub fn new(url: Url, timeout: Duration) -> Result<Self, ClientError> {
        if timeout < Duration::from_millis(1) || timeout > MAX_TIMEOUT {
            return Err(ClientError::Timeout);
        }
        let roots = tls::system_roots();
        if url.scheme() == "https" && roots.is_empty() {
            return Err(ClientError::NoRoots);
        }
        let builder = Client::builder();
        // What goes in the clear goes to this machine only, and not by the proxy that its environment names.
        let builder = if url.scheme() == "http" { builder.no_proxy() } else { builder };
        let client = builder
            .tls_backend_preconfigured(tls::client(roots).map_err(ClientError::Tls)?)
            .timeout(timeout)
            // Half of the whole at most, so that the time of a connection that never opened is never taken for
            // the time of a message in doubt.
            .connect_timeout(CONNECT_TIMEOUT.min(timeout / 2))
            // A redirect would carry the credentials and the message to somebody else.
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .user_agent(concat!("vestibule/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(ClientError::Client)?;
        Ok(Self { client, url })
    }

    /// A request in the making.
    pub fn post(&self) -> RequestBuilder {
        self.client.post(self.url.clone())
    }
}

/// Sends a request and reads the answer, whatever it says.
///
/// # Errors
/// [`SmsError::Temporary`] when nothing was sent, [`SmsError::Ambiguous`] when no status came back.
pub async fn exchange(request: RequestBuilder) -> Result<Answer, SmsError> {
    let response = request.send().await.map_err(|error| unanswered(&error))?;
    let (status, headers) = (response.status(), response.headers().clone());
    Ok(Answer { status, headers, body: body(response).await })
}

/// What it means that no status came.
fn unanswered(error: &reqwest::Error) -> SmsError {
    if error.is_connect() || error.is_builder() {
        let reason = if error.is_timeout() { "the connection timed out" } else { "no connection" };
        return SmsError::Temporary { reason: reason.to_owned() };
    }
    let reason = if error.is_timeout() {
        "no answer within the time-out"
    } else {
        "the connection broke before the answer came"
    };
    SmsError::Ambiguous { reason: reason.to_owned() }
}

/// The body, as far as it is needed: empty when it is too long or breaks off, since a part of a document says nothing.
async fn body(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_ANSWER => body.extend_from_slice(&chunk),
            Ok(None) => return body,
            Ok(Some(_)) | Err(_) => return Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_out_is_the_ports() {
        let client = |timeout| GatewayClient::new(Url::parse("http://localhost").unwrap(), timeout);
        assert!(matches!(client(Duration::ZERO), Err(ClientError::Timeout)));
        assert!(matches!(client(Duration::from_secs(11)), Err(ClientError::Timeout)));
        assert!(client(Duration::from_secs(10)).is_ok());
    }
}
