//! What was submitted over a link and has no answer yet.
//!
//! At first somebody waits for the answer. When the time-out is over the message is in doubt; but the SMSC still works
//! on it, so it keeps its place in the window, and its answer is still news. An SMSC that never answers must not
//! block the link: after two more time-outs the place is free, and only an acceptance is still worth something.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use vestibule_domain::MessageId;
use vestibule_port_sms::SmsError;

/// How many time-outs a place is kept after the first. They are 20 s at most: a refusal that comes until then finds its
/// message still in doubt, since the application sends it again after 30 s only.
const PLACE_KEPT: u32 = 2;
/// How long an acceptance is waited for after that.
const REMEMBERED: Duration = Duration::from_mins(5);
/// How many are remembered without a place; the oldest makes room.
const MAX_REMEMBERED: usize = 1024;

/// The id that the SMSC gave a submission, if it gave it one; or why it took it not.
pub(crate) type Answer = Result<Option<String>, SmsError>;

/// Which part of which message a submission is. A part is submitted when those before it are accepted.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) message: MessageId,
    pub(crate) place: Place,
}

/// Where a part stands in its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is all of it.
    Whole,
    /// The first of several.
    First,
    /// Neither the first nor the last.
    Inner,
    /// The last of several.
    Last {
        /// The id of the first.
        first: Option<String>,
    },
}

/// An answer that nobody waited for any more, and that ends the doubt about its message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Late {
    pub(crate) message: MessageId,
    pub(crate) news: News,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The SMSC has all of it.
    Accepted {
        /// What its receipts will name.
        id: Option<String>,
    },
    /// The SMSC has nothing of it.
    Refused {
        /// For the operator.
        reason: String,
    },
}

impl Origin {
    /// What the answer says of the message; `None` if it stays in doubt, a part being on its way and another not.
    fn late(self, answer: Answer) -> Option<Late> {
        let news = match (self.place, answer) {
            (Place::Whole, Ok(id)) | (Place::Last { first: id }, Ok(_)) => News::Accepted { id },
            (Place::Whole | Place::First, Err(refusal)) => News::Refused { reason: refusal.to_string() },
            _ => return None,
        };
        Some(Late { message: self.message, news })
    }
}

/// The submissions of a link.
pub(crate) struct Submissions {
    /// Those that have a place in the window.
    placed: HashMap<u32, Placed>,
    /// Those that have none any more, the oldest first.
    remembered: VecDeque<Remembered>,
    timeout: Duration,
}

struct Placed {
    origin: Origin,
    /// The next time-out.
    until: Instant,
    /// `None` when nobody waits any more.
    reply: Option<oneshot::Sender<Answer>>,
}

struct Remembered {
    sequence: u32,
    origin: Origin,
    until: Instant,
}

impl Submissions {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { placed: HashMap::new(), remembered: VecDeque::new(), timeout }
    }

    /// How many places in the window are taken.
    pub(crate) fn places(&self) -> usize {
        self.placed.len()
    }

    /// Whether somebody waits for an answer.
    pub(crate) fn are_waited_for(&self) -> bool {
        self.placed.values().any(|placed| placed.reply.is_some())
    }

    /// When the next time-out is over.
    pub(crate) fn alarm(&self) -> Option<Instant> {
        self.placed.values().map(|placed| placed.until).min()
    }

    /// Takes a place.
    pub(crate) fn insert(
        &mut self,
        sequence: u32,
        origin: Origin,
        answer_by: Instant,
        reply: oneshot::Sender<Answer>,
    ) {
        self.placed.insert(sequence, Placed { origin, until: answer_by, reply: Some(reply) });
    }

    /// Gives the answer to whoever waits for it, or else says what it is late for. One to something else is for
    /// nobody.
    pub(crate) fn answer(&mut self, sequence: u32, answer: Answer) -> Option<Late> {
        if let Some(Placed { origin, reply, .. }) = self.placed.remove(&sequence) {
            let unheard = match reply {
                Some(reply) => reply.send(answer).err()?,
                None => answer,
            };
            return origin.late(unheard);
        }
        let at = self.remembered.iter().position(|remembered| remembered.sequence == sequence)?;
        let Remembered { origin, .. } = self.remembered.remove(at)?;
        // The message may be on its way again, and that may have succeeded.
        origin.late(Ok(answer.ok()?))
    }

    /// Tells those whose time-out is over, and frees the places that were kept for long enough.
    pub(crate) fn keep_time(&mut self, now: Instant) {
        for placed in self.placed.values_mut().filter(|placed| placed.until <= now) {
            let Some(reply) = placed.reply.take() else { continue };
            let reason = "no answer within the time-out".to_owned();
            let _ = reply.send(Err(SmsError::Ambiguous { reason }));
            placed.until += self.timeout * PLACE_KEPT;
        }
        for (sequence, Placed { origin, .. }) in self.placed.extract_if(|_, placed| placed.until <= now) {
            self.remembered.push_back(Remembered { sequence, origin, until: now + REMEMBERED });
        }
        let surplus = self.remembered.len().saturating_sub(MAX_REMEMBERED);
        let over = self.remembered.iter().take_while(|remembered| remembered.until <= now).count();
        self.remembered.drain(..surplus.max(over));
    }

    /// The link is lost, and with it the answers.
    pub(crate) fn lose(self, reason: &str) {
        for reply in self.placed.into_values().filter_map(|placed| placed.reply) {
            let _ = reply.send(Err(SmsError::Ambiguous { reason: reason.to_owned() }));
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use uuid::Uuid;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(8);

    fn origin(place: Place) -> Origin {
        Origin { message: MessageId::new(Uuid::from_u128(1)), place }
    }

    fn refused() -> Answer {
        Err(SmsError::Temporary { reason: "full".to_owned() })
    }

    fn acceptance(id: &str) -> News {
        News::Accepted { id: Some(id.to_owned()) }
    }

    /// One that nobody waits for any more.
    fn overdue(place: Place, start: Instant) -> Submissions {
        let mut submissions = Submissions::new(TIMEOUT);
        let (reply, mut answer) = oneshot::channel();
        submissions.insert(7, origin(place), start + TIMEOUT, reply);
        submissions.keep_time(start + TIMEOUT);
        assert!(matches!(answer.try_recv(), Ok(Err(SmsError::Ambiguous { .. }))));
        assert!(!submissions.are_waited_for());
        submissions
    }

    #[rstest]
    #[case(Place::Whole, Some(acceptance("a")))]
    #[case(Place::First, None)]
    #[case(Place::Inner, None)]
    #[case(Place::Last { first: Some("f".to_owned()) }, Some(acceptance("f")))]
    fn late_acceptances(#[case] place: Place, #[case] news: Option<News>) {
        let late = overdue(place, Instant::now()).answer(7, Ok(Some("a".to_owned())));
        assert_eq!(late.map(|late| late.news), news);
    }

    #[rstest]
    #[case(Place::Whole, true)]
    #[case(Place::First, true)]
    #[case(Place::Inner, false)]
    #[case(Place::Last { first: None }, false)]
    fn late_refusals(#[case] place: Place, #[case] ends_the_doubt: bool) {
        let late = overdue(place, Instant::now()).answer(7, refused());
        let news = News::Refused { reason: "failed for now: full".to_owned() };
        assert_eq!(late.map(|late| late.news), ends_the_doubt.then_some(news));
    }

    #[test]
    fn an_answer_in_time_is_no_news() {
        let mut submissions = Submissions::new(TIMEOUT);
        let (reply, mut answer) = oneshot::channel();
        submissions.insert(7, origin(Place::Whole), Instant::now() + TIMEOUT, reply);
        assert_eq!(submissions.answer(8, Ok(Some("b".to_owned()))), None);
        assert_eq!(submissions.answer(7, Ok(Some("a".to_owned()))), None);
        assert_eq!(answer.try_recv(), Ok(Ok(Some("a".to_owned()))));
        assert_eq!(submissions.answer(7, Ok(Some("a".to_owned()))), None);
    }

    #[test]
    fn a_place_is_kept_for_two_more_time_outs_and_refusals_matter_as_long() {
        let start = Instant::now();
        for answer in [Ok(None), refused()] {
            let mut submissions = overdue(Place::Whole, start);
            assert_eq!(submissions.alarm(), Some(start + 3 * TIMEOUT));
            submissions.keep_time(start + 3 * TIMEOUT - Duration::from_millis(1));
            assert_eq!(submissions.places(), 1);
            submissions.keep_time(start + 3 * TIMEOUT);
            assert_eq!((submissions.places(), submissions.alarm()), (0, None));
            let is_accepted = answer.is_ok();
            assert_eq!(submissions.answer(7, answer).is_some(), is_accepted);
        }
    }

    #[test]
    fn what_never_comes_is_forgotten() {
        let start = Instant::now();
        let mut submissions = overdue(Place::Whole, start);
        submissions.keep_time(start + 3 * TIMEOUT);
        submissions.keep_time(start + 3 * TIMEOUT + REMEMBERED);
        assert_eq!(submissions.answer(7, Ok(None)), None);
        for sequence in (0..).take(MAX_REMEMBERED + 1) {
            submissions.insert(sequence, origin(Place::Whole), start, oneshot::channel().0);
            submissions.keep_time(start + 2 * TIMEOUT);
        }
        assert_eq!((submissions.places(), submissions.remembered.len()), (0, MAX_REMEMBERED));
        assert_eq!(submissions.answer(0, Ok(None)), None);
        assert!(submissions.answer(1, Ok(None)).is_some());
    }
}
