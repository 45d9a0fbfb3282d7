//! A client that costs next to nothing: HTTP/1.1 on a kept connection, one request at a time, on the thread that asks. It shares
//! the machine with what it measures, so all that it spends is missing there. A thread may have several, and hear whichever is answered.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use anyhow::Context as _;

use crate::people::place;

/// A request that takes longer has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Room for any answer of the service.
const LARGEST_ANSWER: usize = 16 * 1024;

pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

/// What was answered.
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: vec![0; LARGEST_ANSWER], filled: 0 })
    }

    /// Sends a whole request and waits for the whole answer.
    pub(crate) fn send(&mut self, request: &[u8]) -> anyhow::Result<Answer<'_>> {
        self.ask(request)?;
        loop {
            if let Some((status, body)) = self.read_on()? {
                return Ok(self.answer(status, body));
            }
        }
    }

    /// Sends a whole request. The answer to the one before must have been heard.
    pub(crate) fn ask(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.filled = 0;
        Ok(self.stream.write_all(request)?)
    }

    /// Reads once, for which it waits if nothing has come; the answer, when it is whole.
    pub(crate) fn hear(&mut self) -> anyhow::Result<Option<Answer<'_>>> {
        Ok(self.read_on()?.map(|(status, body)| self.answer(status, body)))
    }

    fn read_on(&mut self) -> anyhow::Result<Option<(u16, Range<usize>)>> {
        let room = self.buffer.get_mut(self.filled..).context("an answer is too large")?;
        let more = self.stream.read(room)?;
        anyhow::ensure!(more > 0, "the service has hung up");
        self.filled += more;
        let read = self.buffer.get(..self.filled).unwrap_or_default();
        Ok(parse(read)?.filter(|(_, body)| self.filled >= body.end))
    }

    fn answer(&self, status: u16, body: Range<usize>) -> Answer<'_> {
        Answer { status, body: self.buffer.get(body).unwrap_or_default() }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// The bytes of a request with a JSON body.
pub(crate) fn request(method: &str, path: &str, token: Option<&str>, body: &str) -> Vec<u8> {
    let bearer = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nhost: bench\r\n{bearer}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// The request as a proxy passes it on, from a device and an address of somebody's own.
pub(crate) fn forwarded(mut request: Vec<u8>, number: u32) -> Vec<u8> {
    let headers = format!("x-forwarded-for: {}\r\nx-fingerprint: {number}\r\n", place(number));
    let end_of_line = request.windows(2).position(|two| two == b"\r\n").map_or(0, |at| at + 2);
    request.splice(end_of_line..end_of_line, headers.into_bytes());
    request
}

/// The status, and where the body is or will be; `None` while the head is not whole.
fn parse(bytes: &[u8]) -> anyhow::Result<Option<(u16, Range<usize>)>> {
    let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(bytes.get(..head).unwrap_or_default())?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("an answer has no status")?;
    let length = lines.filter_map(|line| line.split_once(": ")).find_map(|(name, value)| {
        name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>())
    });
    let begin = head + 4;
    Ok(Some((status.parse()?, begin..begin + length.transpose()?.unwrap_or(0))))
}
