//! As much of HTTP/1.1 (RFC 9112) as a gateway for small forms needs: a request with a `Content-Length`, an answer
//! with one, connections that stay open. Chunked requests are refused; the client under test does not make any.
//! And as much of a client as a callback needs.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// No request line, header section or body may be longer, in bytes.
const MAX_HEAD: u64 = 16 * 1024;
const MAX_BODY: usize = 64 * 1024;

/// One request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// The path, without the query.
    pub(super) path: String,
    /// The path with the query.
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// What is answered.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Request {
    /// Reads the next request; `None` when the client has closed the connection.
    ///
    /// What is no HTTP is [`io::ErrorKind::InvalidData`].
    pub(super) async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Self>> {
        let mut head = (&mut *stream).take(MAX_HEAD);
        let Some(request_line) = line(&mut head).await? else { return Ok(None) };
        let mut words = request_line.split(' ');
        let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(invalid("no request line"));
        };
        let headers = headers(&mut head).await?;
        let path = target.split('?').next().unwrap_or_default().to_owned();
        let (method, target) = (method.to_owned(), target.to_owned());
        let mut request = Self { method, path, target, headers, body: Vec::new() };
        request.body = vec![0; request.body_length()?];
        stream.read_exact(&mut request.body).await?;
        Ok(Some(request))
    }

    /// A header's first value.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The user and password of HTTP Basic (RFC 7617).
    pub(super) fn credentials(&self) -> Option<(String, String)> {
        let (scheme, encoded) = self.header("Authorization")?.split_once(' ')?;
        let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (user, password) = decoded.split_once(':')?;
        scheme.eq_ignore_ascii_case("Basic").then(|| (user.to_owned(), password.to_owned()))
    }

    /// The fields of an `application/x-www-form-urlencoded` body, in their order; `None` for any other body.
    pub(super) fn form(&self) -> Option<Vec<(String, String)>> {
        let media_type = self.header("Content-Type")?.split(';').next()?.trim();
        if !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return None;
        }
        let body = std::str::from_utf8(&self.body).ok()?;
        body.split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Some((decode(name)?, decode(value)?))
            })
            .collect()
    }

    /// Whether the client wants the connection closed after the answer.
    pub(super) fn is_last(&self) -> bool {
        self.header("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    fn body_length(&self) -> io::Result<usize> {
        if self.header("Transfer-Encoding").is_some() {
            return Err(invalid("a chunked request"));
        }
        match self.header("Content-Length").map(str::parse::<usize>) {
            None => Ok(0),
            Some(Ok(length)) if length <= MAX_BODY => Ok(length),
            Some(_) => Err(invalid("no acceptable Content-Length")),
        }
    }
}

impl Answer {
    /// A JSON answer.
    pub(super) fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::new(status, "application/json", body.to_string())
    }

    /// An answer of the given media type.
    pub(super) fn new(status: u16, media_type: &str, body: String) -> Self {
        Self { status, headers: vec![("Content-Type".to_owned(), media_type.to_owned())], body }
    }

    /// Adds a header.
    #[must_use]
    pub(super) fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes it.
    pub(super) async fn write(&self, stream: &mut BufReader<TcpStream>) -> io::Result<()> {
        let headers: String =
            self.headers.iter().flat_map(|(name, value)| [name, ": ", value, "\r\n"]).collect();
        let (status, length) = (self.status, self.body.len());
        let head =
            format!("HTTP/1.1 {status} {}\r\n{headers}Content-Length: {length}\r\n\r\n", reason(status));
        let stream = stream.get_mut();
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(self.body.as_bytes()).await?;
        stream.flush().await
    }
}

/// Posts to an `http` URL on a connection of its own, and gives the status that is answered.
pub(super) async fn post(url: &str, headers: &[(&str, &str)], body: &str) -> io::Result<u16> {
    let rest = url.strip_prefix("http://").ok_or_else(|| invalid("no http URL"))?;
    let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
    let mut stream = BufReader::new(TcpStream::connect(authority).await?);
    let headers: String = headers.iter().flat_map(|(name, value)| [name, ": ", value, "\r\n"]).collect();
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    stream.get_mut().write_all(request.as_bytes()).await?;
    let status_line = line(&mut stream).await?.unwrap_or_default();
    let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.ok_or_else(|| invalid("no status line"))
}

/// One line without its end; `None` at the end of the stream.
async fn line(stream: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    stream.read_until(b'\n', &mut bytes).await?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let text = String::from_utf8(bytes).map_err(|_| invalid("a line that is no text"))?;
    let text = text.strip_suffix("\r\n").ok_or_else(|| invalid("a line without its end"))?;
    Ok(Some(text.to_owned()))
}

async fn headers(stream: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let line = line(stream).await?.ok_or_else(|| invalid("a header section without its end"))?;
        if line.is_empty() {
            return Ok(headers);
        }
        let (name, value) = line.split_once(':').ok_or_else(|| invalid("a header without a colon"))?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

/// Percent-decodes one side of a form's pair; `None` for a broken escape or what is no UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                *hex::decode(digits).ok()?.first()?
            }
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Scripted",
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
