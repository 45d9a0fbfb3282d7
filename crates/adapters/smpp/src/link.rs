//! One connection to the SMSC, from its bind to its end.
//!
//! A single loop reads, writes, submits, answers and keeps the time; nothing in it waits for one thing while another
//! is due. What is held is bounded: submissions by the window and a bound for those without a place in it, reports being
//! recorded, octets waiting to be written (while those pile up, nothing more is read).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use rusmpp::{CommandId, Pdu};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use vestibule_port_sms::{DeliveryReport, DeliveryReports, Reported, SmsError};

use crate::doubts::Doubts;
use crate::pdu::{self, Frame, ImpossibleLength};
use crate::receipt::{self, Delivered};
use crate::session::Stop;
use crate::settings::{Account, ReceiptIds};
use crate::submissions::{Answer, Origin, Submissions};
use crate::unplaced::{Unplaced, Verdict};
use crate::{PROVIDER, statuses};

/// How long an SMSC may take for a good-bye.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long nothing is submitted when the SMSC asks for less, at least; SMPP has no way to say how long.
const RELIEF: Duration = Duration::from_secs(1);
/// How many reports are recorded at a time; the SMSC is asked to say the others again.
const MAX_RECORDING: usize = 32;
/// With so many octets waiting to be written, nothing more is read.
const MAX_OUTPUT: usize = 64 * 1024;
/// Octets that are made room for before a read.
const READ: usize = 4096;
/// The largest sequence number (v3.4, section 3.2).
const MAX_SEQUENCE: u32 = 0x7fff_ffff;

/// What a link runs on: TCP, or TLS over it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A submission that somebody waits for.
pub(crate) struct Order {
    /// The `submit_sm`.
    pub(crate) pdu: Box<Pdu>,
    /// What it is a part of.
    pub(crate) origin: Origin,
    /// Nobody waits for the answer after this.
    pub(crate) answer_by: Instant,
    /// Whether it is decided if it is sent.
    pub(crate) claim: Claim,
    /// Takes the id that the SMSC gave it, if it gave it one.
    pub(crate) reply: oneshot::Sender<Answer>,
}

impl Order {
    /// Answers that it was not sent.
    pub(crate) fn refuse(self, reason: &str) {
        // Who does not wait any more does not need to know.
        let _ = self.reply.send(Err(SmsError::Temporary { reason: reason.to_owned() }));
    }
}

/// Settles between the session, which is about to send, and the caller, whose patience ends, which of them was first. So a
/// caller knows for certain whether its message may have been sent.
#[derive(Clone, Default)]
pub(crate) struct Claim(Arc<AtomicBool>);

impl Claim {
    /// Whether the caller of this is the first.
    pub(crate) fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// Why a link ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Loss {
    #[error("the SMSC closed the connection")]
    Closed,
    #[error("the connection broke")]
    Broken,
    #[error("the SMSC sent a PDU of an impossible length")]
    Length,
    #[error("the SMSC does not answer")]
    Silent,
    #[error("the SMSC does not read")]
    Stalled,
    #[error("the SMSC ended the session")]
    Unbound,
    /// We wanted it.
    #[error("stopped")]
    Stopped,
}

/// What a session remembers from link to link: an SMSC says on the next one what it could not say on this one.
pub(crate) struct Memory {
    pub(crate) unplaced: Unplaced,
    pub(crate) doubts: Doubts,
}

/// A connection that is bound.
pub(crate) struct Link<'a> {
    account: &'a Account,
    reports: &'a Arc<dyn DeliveryReports>,
    memory: &'a mut Memory,
    inbound: Inbound,
    outbound: Outbound,
    sequence: u32,
    submissions: Submissions,
    recording: JoinSet<Recording>,
    heard_at: Instant,
    /// When the answer to an `enquire_link` is due.
    enquiry_until: Option<Instant>,
    /// The account's pace, or the SMSC, allows no submission before.
    submit_at: Instant,
    leaving: Option<Leaving>,
}

/// A report that was given to be recorded.
struct Recording {
    /// The message's.
    id: String,
    /// What it came in.
    command: CommandId,
    sequence: u32,
    is_recorded: bool,
}

/// We want to go.
struct Leaving {
    until: Instant,
    has_unbound: bool,
}

/// What happens next.
enum Step {
    Heard(Frame),
    Written,
    Ordered(Order),
    Recorded(Result<Recording, JoinError>),
    Leave,
    Woken,
}

impl<'a> Link<'a> {
    /// Binds. The caller sees to it that this ends.
    pub(crate) async fn bind(
        stream: Box<dyn Stream>,
        account: &'a Account,
        reports: &'a Arc<dyn DeliveryReports>,
        memory: &'a mut Memory,
    ) -> Result<Self, String> {
        const SEQUENCE: u32 = 1;
        let (reader, writer) = tokio::io::split(stream);
        let now = Instant::now();
        let mut inbound = Inbound { reader, input: BytesMut::new() };
        let mut outbound = Outbound { writer, output: BytesMut::new(), is_flushed: true, moved_at: now };
        let bind = pdu::bind(account).map_err(|_| "the account does not fit into a bind")?;
        outbound.push(statuses::ROK, SEQUENCE, bind);
        loop {
            outbound.write().await.map_err(|loss| loss.to_string())?;
            let frame = inbound.next().await.map_err(|loss| format!("{loss} during the bind"))?;
            match frame.command {
                CommandId::BindTransceiverResp if frame.status == statuses::ROK => break,
                CommandId::BindTransceiverResp | CommandId::GenericNack => {
                    return Err(format!("the SMSC refused the bind: {}", statuses::describe(frame.status)));
                }
                CommandId::EnquireLink => outbound.push(statuses::ROK, frame.sequence, Pdu::EnquireLinkResp),
                _ => {}
            }
        }
        Ok(Self {
            account,
            reports,
            memory,
            inbound,
            outbound,
            sequence: SEQUENCE,
            submissions: Submissions::new(account.timeout),
            recording: JoinSet::new(),
            heard_at: now,
            enquiry_until: None,
            submit_at: now,
            leaving: None,
        })
    }

    /// Serves the link to its end.
    pub(crate) async fn serve(mut self, orders: &mut mpsc::Receiver<Order>, stop: &mut Stop) -> Loss {
        loop {
            let outcome = match self.step(orders, stop).await {
                Ok(step) => self.act(step),
                Err(loss) => Err(loss),
            };
            let Err(loss) = outcome.and_then(|()| self.keep_time(Instant::now())) else { continue };
            self.submissions.lose(&format!("{loss}; there was no answer yet"));
            if matches!(loss, Loss::Length | Loss::Unbound) {
                // The last word is still to be written; nobody needs it who does not read it.
                let _ = timeout(FAREWELL, self.outbound.write()).await;
            }
            return loss;
        }
    }

    /// Waits for what comes first. All branches may be dropped half-way without a loss.
    async fn step(&mut self, orders: &mut mpsc::Receiver<Order>, stop: &mut Stop) -> Result<Step, Loss> {
        let now = Instant::now();
        let alarm = self.alarm(now);
        tokio::select! {
            frame = self.inbound.next(), if self.outbound.output.len() <= MAX_OUTPUT => match frame {
                Err(Loss::Length) => {
                    self.outbound.push(statuses::RINVCMDLEN, 0, Pdu::GenericNack);
                    Err(Loss::Length)
                }
                frame => frame.map(Step::Heard),
            },
            written = self.outbound.write(), if !self.outbound.is_idle() => written.map(|()| Step::Written),
            Some(order) = orders.recv(), if self.has_window() && now >= self.submit_at => Ok(Step::Ordered(order)),
            Some(recorded) = self.recording.join_next() => Ok(Step::Recorded(recorded)),
            true = self.memory.doubts.told() => Ok(Step::Woken),
            () = stop.requested(), if self.leaving.is_none() => Ok(Step::Leave),
            () = sleep_until(alarm) => Ok(Step::Woken),
        }
    }

    fn has_window(&self) -> bool {
        self.leaving.is_none() && self.submissions.places() < self.account.window
    }

    /// When the next thing is due.
    fn alarm(&self, now: Instant) -> Instant {
        let enquiry = self.enquiry_until.unwrap_or(self.heard_at + self.account.enquire_link);
        let stall = (!self.outbound.is_idle()).then(|| self.outbound.moved_at + self.account.timeout);
        let submission = (self.has_window() && self.submit_at > now).then_some(self.submit_at);
        let leaving = self.leaving.as_ref().map(|leaving| leaving.until);
        self.submissions
            .alarm()
            .into_iter()
            .chain(stall)
            .chain(submission)
            .chain(leaving)
            .fold(enquiry, Instant::min)
    }

    /// Does what is due.
    fn keep_time(&mut self, now: Instant) -> Result<(), Loss> {
        self.submissions.keep_time(now);
        if !self.outbound.is_idle() && self.outbound.moved_at + self.account.timeout <= now {
            return Err(Loss::Stalled);
        }
        match self.enquiry_until {
            Some(until) if until <= now => return Err(Loss::Silent),
            None if self.heard_at + self.account.enquire_link <= now => {
                self.enquiry_until = Some(now + self.account.timeout);
                self.request(Pdu::EnquireLink);
            }
            _ => {}
        }
        self.leave(now)
    }

    /// Goes, if we want to: when everybody has an answer, or cannot be waited for any longer.
    fn leave(&mut self, now: Instant) -> Result<(), Loss> {
        let is_done = !self.submissions.are_waited_for() && self.recording.is_empty();
        match &mut self.leaving {
            Some(leaving) if leaving.has_unbound && leaving.until <= now => Err(Loss::Stopped),
            Some(leaving) if !leaving.has_unbound && (is_done || leaving.until <= now) => {
                *leaving = Leaving { until: now + FAREWELL, has_unbound: true };
                self.request(Pdu::Unbind);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn act(&mut self, step: Step) -> Result<(), Loss> {
        match step {
            Step::Heard(frame) => return self.hear(frame),
            Step::Ordered(order) => self.submit(order),
            Step::Recorded(Ok(recorded)) => self.recorded(recorded),
            // It is not acknowledged, so the SMSC says it again.
            Step::Recorded(Err(_)) => tracing::error!("recording a delivery report of the SMSC failed"),
            Step::Leave => {
                let until = Instant::now() + self.account.timeout;
                self.leaving = Some(Leaving { until, has_unbound: false });
            }
            Step::Written | Step::Woken => {}
        }
        Ok(())
    }

    fn submit(&mut self, order: Order) {
        if order.reply.is_closed() || !order.claim.take() {
            return;
        }
        self.submit_at = Instant::now() + self.account.pace;
        let sequence = self.request(*order.pdu);
        self.submissions.insert(sequence, order.origin, order.answer_by, order.reply);
    }

    /// Whatever comes shows that the link lives.
    fn hear(&mut self, frame: Frame) -> Result<(), Loss> {
        self.heard_at = Instant::now();
        self.enquiry_until = None;
        let (command, sequence) = (frame.command, frame.sequence);
        match command {
            CommandId::SubmitSmResp | CommandId::GenericNack => self.answered(&frame),
            CommandId::DeliverSm | CommandId::DataSm => self.delivered(frame),
            CommandId::EnquireLink => self.outbound.push(statuses::ROK, sequence, Pdu::EnquireLinkResp),
            CommandId::Unbind => {
                self.outbound.push(statuses::ROK, sequence, Pdu::UnbindResp);
                return Err(Loss::Unbound);
            }
            CommandId::UnbindResp if self.leaving.is_some() => return Err(Loss::Stopped),
            // It wants no answer, and we asked for none.
            CommandId::AlertNotification => {}
            _ if frame.is_answer() => {}
            _ => self.outbound.push(statuses::RINVCMDID, sequence, Pdu::GenericNack),
        }
        Ok(())
    }

    fn answered(&mut self, frame: &Frame) {
        let answer = answer(frame, self.account.receipt_ids);
        if let Ok(Some(id)) = &answer {
            self.memory.doubts.forget(id);
        }
        if let Err(SmsError::Throttled { .. }) = &answer {
            // What waits already would be refused as well.
            self.submit_at = self.submit_at.max(Instant::now() + RELIEF);
        }
        if let Some(late) = self.submissions.answer(frame.sequence, answer) {
            self.memory.doubts.end(late);
        }
    }

    fn delivered(&mut self, frame: Frame) {
        let (command, sequence) = (frame.command, frame.sequence);
        let delivered = frame.body().map(|pdu| receipt::read(&pdu, self.account.receipt_ids));
        let status = match delivered {
            Some(Delivered::Report { id, delivery }) => {
                if self.recording.len() < MAX_RECORDING {
                    let in_doubt = self.memory.doubts.message(&id);
                    let message = in_doubt.map_or_else(|| Reported::Reference(id.clone()), Reported::Message);
                    let report = DeliveryReport { provider: PROVIDER, message, delivery };
                    let (reports, limit) = (Arc::clone(self.reports), self.account.timeout);
                    self.recording.spawn(async move {
                        let is_recorded = timeout(limit, reports.record(report)).await.unwrap_or(false);
                        Recording { id, command, sequence, is_recorded }
                    });
                    return;
                }
                statuses::RX_T_APPN
            }
            Some(Delivered::NoNews | Delivered::Message) => statuses::ROK,
            // It would be no better the next time.
            Some(Delivered::Unreadable) => {
                tracing::warn!("a delivery receipt of the SMSC cannot be read");
                statuses::ROK
            }
            None => {
                tracing::warn!("a message of the SMSC cannot be read");
                statuses::RX_R_APPN
            }
        };
        self.acknowledge(command, sequence, status);
    }

    /// Acknowledges a report that was recorded, or that never will be.
    fn recorded(&mut self, recording: Recording) {
        let Recording { id, command, sequence, is_recorded } = recording;
        if is_recorded {
            self.memory.unplaced.place(&id);
            return self.acknowledge(command, sequence, statuses::ROK);
        }
        let status = match self.memory.unplaced.refuse(id.clone(), Instant::now()) {
            Verdict::AskAgain => statuses::RX_T_APPN,
            Verdict::GiveUp => {
                tracing::warn!(id, "a delivery receipt could not be recorded for a minute and is dropped");
                statuses::ROK
            }
            Verdict::GivenUpBefore => statuses::ROK,
            Verdict::NoRoom => {
                tracing::warn!(
                    id,
                    "a delivery receipt could not be recorded and is dropped, since thousands wait"
                );
                statuses::ROK
            }
        };
        self.acknowledge(command, sequence, status);
    }

    fn acknowledge(&mut self, command: CommandId, sequence: u32, status: u32) {
        if let Some(answer) = pdu::delivery_answer(command) {
            self.outbound.push(status, sequence, answer);
        }
    }

    fn request(&mut self, pdu: Pdu) -> u32 {
        self.sequence = if self.sequence < MAX_SEQUENCE { self.sequence + 1 } else { 1 };
        self.outbound.push(statuses::ROK, self.sequence, pdu);
        self.sequence
    }
}

/// What the answer to a submission says. Accepted is accepted, whatever its id looks like.
fn answer(frame: &Frame, ids: ReceiptIds) -> Answer {
    match (frame.command, frame.status) {
        (CommandId::SubmitSmResp, statuses::ROK) => {
            Ok(frame.accepted_id().filter(|id| receipt::is_id(id)).map(|id| receipt::given(id, ids)))
        }
        (_, status) => Err(statuses::refusal(status)),
    }
}

struct Inbound {
    reader: ReadHalf<Box<dyn Stream>>,
    input: BytesMut,
}

impl Inbound {
    /// The next PDU. Dropped half-way, it keeps what it has read.
    async fn next(&mut self) -> Result<Frame, Loss> {
        loop {
            if let Some(frame) = Frame::take(&mut self.input).map_err(|ImpossibleLength| Loss::Length)? {
                return Ok(frame);
            }
            self.input.reserve(READ);
            match self.reader.read_buf(&mut self.input).await {
                Ok(0) => return Err(Loss::Closed),
                Ok(_) => {}
                Err(_) => return Err(Loss::Broken),
            }
        }
    }
}

struct Outbound {
    writer: WriteHalf<Box<dyn Stream>>,
    output: BytesMut,
    is_flushed: bool,
    /// When the SMSC last took something, or the first octets began to wait.
    moved_at: Instant,
}

impl Outbound {
    fn is_idle(&self) -> bool {
        self.output.is_empty() && self.is_flushed
    }

    fn push(&mut self, status: u32, sequence: u32, pdu: Pdu) {
        if self.is_idle() {
            self.moved_at = Instant::now();
        }
        pdu::write(&mut self.output, status, sequence, pdu);
    }

    /// Writes what waits. Dropped half-way, it goes on from there the next time.
    async fn write(&mut self) -> Result<(), Loss> {
        while !self.output.is_empty() {
            match self.writer.write_buf(&mut self.output).await {
                Ok(0) | Err(_) => return Err(Loss::Broken),
                Ok(_) => self.is_flushed = false,
            }
            self.moved_at = Instant::now();
        }
        self.writer.flush().await.map_err(|_| Loss::Broken)?;
        self.is_flushed = true;
        Ok(())
    }
}
