//! One connection, from its first octet to its last.

use std::io;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::wire::{self, Pdu};
use super::{Answered, Link, Shared, SmscBehaviour, lock};

/// Serves one connection. An error of it concerns its client, who sees it too.
pub(super) async fn converse<S: AsyncRead + AsyncWrite>(stream: S, shared: &Shared) -> io::Result<()> {
    let (reader, writer) = tokio::io::split(stream);
    let (link, answers) = unbounded_channel();
    let mut session = Session { shared, link, is_bound: false };
    tokio::try_join!(session.read(reader), write(writer, answers))?;
    Ok(())
}

/// Writes until it is told to stop by an empty message.
async fn write<S: AsyncWrite>(
    mut writer: WriteHalf<S>,
    mut answers: UnboundedReceiver<Vec<u8>>,
) -> io::Result<()> {
    while let Some(octets) = answers.recv().await.filter(|octets| !octets.is_empty()) {
        writer.write_all(&octets).await?;
        writer.flush().await?;
    }
    writer.shutdown().await
}

struct Session<'a> {
    shared: &'a Shared,
    link: Link,
    is_bound: bool,
}

impl Session<'_> {
    async fn read<S: AsyncRead>(&mut self, mut reader: ReadHalf<S>) -> io::Result<()> {
        loop {
            let request = Pdu::read(&mut reader).await?;
            match request.command {
                wire::BIND_TRANSCEIVER if self.is_bound => {
                    self.answer(&request, wire::ALREADY_BOUND, Vec::new());
                }
                wire::BIND_TRANSCEIVER => {
                    let (status, body) = self.shared.bind(&request.body);
                    self.is_bound = status == 0;
                    if self.is_bound {
                        *lock(&self.shared.bound) = Some(self.link.clone());
                    }
                    self.answer(&request, status, body);
                }
                wire::ENQUIRE_LINK => {
                    self.shared.enquiries.send_modify(|count| *count += 1);
                    if !self.shared.ignores_enquiries.load(Ordering::Relaxed) {
                        self.answer(&request, 0, Vec::new());
                    }
                }
                wire::SUBMIT_SM if self.is_bound => self.submit(&request)?,
                wire::SUBMIT_SM => self.answer(&request, wire::NOT_BOUND, Vec::new()),
                wire::UNBIND => {
                    self.answer(&request, 0, Vec::new());
                    self.shared.unbinds.send_modify(|count| *count += 1);
                    self.send(Vec::new());
                    return Ok(());
                }
                command if command & wire::ANSWER != 0 => self.answered(&request),
                _ => {
                    let (status, sequence) = (wire::INVALID_COMMAND, request.sequence);
                    self.send(
                        Pdu { command: wire::GENERIC_NACK, status, sequence, body: Vec::new() }.octets(),
                    );
                }
            }
        }
    }

    fn submit(&self, request: &Pdu) -> io::Result<()> {
        let behaviour = self.shared.next_behaviour();
        let closed = || Err(io::Error::from(io::ErrorKind::ConnectionAborted));
        let sequence = request.sequence;
        let outcome = match behaviour {
            SmscBehaviour::Accept => {
                self.send(self.shared.submit(request, None).octets());
                Ok(())
            }
            SmscBehaviour::AcceptAs(id) => {
                self.send(self.shared.submit(request, Some(id)).octets());
                Ok(())
            }
            SmscBehaviour::AcceptWith(body) => {
                let answer = self.shared.submit(request, None);
                // A refusal has none.
                let body = if answer.status == 0 { body } else { Vec::new() };
                self.send(Pdu { body, ..answer }.octets());
                Ok(())
            }
            SmscBehaviour::Hold => {
                let answer = self.shared.submit(request, None);
                lock(&self.shared.held).push((self.link.clone(), answer));
                Ok(())
            }
            SmscBehaviour::HoldRefusal(status) => {
                let command = request.command | wire::ANSWER;
                let answer = Pdu { command, status, sequence, body: Vec::new() };
                lock(&self.shared.held).push((self.link.clone(), answer));
                Ok(())
            }
            SmscBehaviour::Refuse(status) => {
                self.answer(request, status, Vec::new());
                Ok(())
            }
            SmscBehaviour::Nack(status) => {
                self.send(Pdu { command: wire::GENERIC_NACK, status, sequence, body: Vec::new() }.octets());
                Ok(())
            }
            SmscBehaviour::Ignore => Ok(()),
            SmscBehaviour::Close => closed(),
            SmscBehaviour::AcceptThenClose => {
                let _ = self.shared.submit(request, None);
                closed()
            }
        };
        self.shared.submissions.send_modify(|count| *count += 1);
        outcome
    }

    fn answered(&self, answer: &Pdu) {
        match lock(&self.shared.waiting).remove(&answer.sequence) {
            // Who does not wait any more does not need to know.
            Some(waiting) => {
                let _ = waiting.send(Answered { command: answer.command, status: answer.status });
            }
            None if answer.command == wire::GENERIC_NACK => {
                self.shared.nacks.send_modify(|nacks| nacks.push(answer.status));
            }
            None => {}
        }
    }

    fn answer(&self, request: &Pdu, status: u32, body: Vec<u8>) {
        self.send(
            Pdu { command: request.command | wire::ANSWER, status, sequence: request.sequence, body }
                .octets(),
        );
    }

    fn send(&self, octets: Vec<u8>) {
        // The writer may have ended with its connection.
        let _ = self.link.send(octets);
    }
}
