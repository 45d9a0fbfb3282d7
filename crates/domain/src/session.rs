//! Sessions, and the rotation of their refresh tokens (RFC 9700, section 4.14.2).
//!
//! Every refresh spends a token and hands out a pair of the next *generation*. A client that lost the answer presents the
//! spent token again: as long as nothing of the next generation was used, it gets one more pair of that generation, and
//! whichever of these is spent first carries the session on. Anything else that comes back from the past, be it a token whose
//! successor was used or a pair of whose generation another was chosen, is in the hands of two, and ends the session. But a request
//! that was there before the successor was used has only been overtaken: it gets nothing, and proves nothing.
//!
//! A pair counts as used when its refresh token is spent or its access token is shown. Which is why an access token names its
//! generation.

use std::fmt;
use std::time::Duration;

use sha2::{Digest, Sha256};
use time::UtcDateTime;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{Generation, Origin, SessionId, UserId};

/// One signed-in device of one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    record: SessionRecord,
}

/// A [`Session`] with its content laid open, for storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// The `sid` of its tokens.
    pub id: SessionId,
    /// Whose it is.
    pub user: UserId,
    /// Where it was opened from.
    pub origin: Origin,
    /// When it was opened.
    pub created_at: UtcDateTime,
    /// When its tokens were last used, as far as this service sees it.
    pub last_used_at: UtcDateTime,
    /// Of its newest tokens.
    pub generation: Generation,
    /// Whether any of the newest tokens was used.
    pub used: bool,
    /// The token whose refresh began the newest generation.
    pub spent: Option<RefreshTokenHash>,
}

/// How long sessions live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLives {
    /// Without a refresh.
    pub idle: Duration,
    /// In all, however often they are refreshed.
    pub absolute: Duration,
}

/// A refresh token as it is kept, presented by somebody who has the token itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldToken {
    /// Its hash.
    pub hash: RefreshTokenHash,
    /// Its generation.
    pub generation: Generation,
    /// The first moment at which it is worth nothing.
    pub expires_at: UtcDateTime,
}

/// What presenting a refresh token led to.
#[derive(Debug)]
#[must_use = "a refresh counts once the session is saved"]
pub enum Refreshed {
    /// Hand out a pair of the session's newest generation, together with saving the session.
    Pair(Session),
    /// The token or the session has outlived its life: nothing to hand out, nothing to save.
    Expired,
    /// The token was spent by another request while this one was under way: nothing to hand out, nothing to save.
    Overtaken,
    /// The token is in the hands of two: end the session.
    Reused,
}

impl Session {
    /// A new session, whose first pair has generation 0.
    #[must_use]
    pub const fn open(id: SessionId, user: UserId, origin: Origin, now: UtcDateTime) -> Self {
        let record = SessionRecord {
            id,
            user,
            origin,
            created_at: now,
            last_used_at: now,
            generation: 0,
            used: false,
            spent: None,
        };
        Self { record }
    }

    /// The `sid` of its tokens.
    #[must_use]
    pub const fn id(&self) -> SessionId {
        self.record.id
    }

    /// Whose it is.
    #[must_use]
    pub const fn user(&self) -> UserId {
        self.record.user
    }

    /// Its generation: that of the next pair which is handed out for it.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.record.generation
    }

    /// When tokens that are handed out now are worth nothing any more: `life` from now, or when the session ends.
    #[must_use]
    pub fn expiry(&self, life: Duration, lives: &SessionLives, now: UtcDateTime) -> UtcDateTime {
        (now + life).min(self.record.created_at + lives.absolute)
    }

    /// Decides on a refresh token of this session that was presented at `presented_at`, now or before.
    pub fn refresh(
        mut self,
        token: &HeldToken,
        lives: &SessionLives,
        presented_at: UtcDateTime,
        now: UtcDateTime,
    ) -> Refreshed {
        let record = &mut self.record;
        let is_newest = token.generation == record.generation;
        // Its answer was lost, since nothing that it was exchanged for was ever used.
        let is_repeat = record.spent == Some(token.hash) && !record.used;
        if !is_newest && !is_repeat {
            // The last use of a generation is its first, until it ends. One in the future is by a clock that is not ours, and tells nothing.
            let used_at = record.last_used_at;
            let is_overtaken = record.spent == Some(token.hash) && presented_at < used_at && used_at <= now;
            return if is_overtaken { Refreshed::Overtaken } else { Refreshed::Reused };
        }
        if now >= token.expires_at || now >= record.created_at + lives.absolute {
            return Refreshed::Expired;
        }
        if is_newest {
            record.generation = record.generation.saturating_add(1);
            record.spent = Some(token.hash);
            record.used = false;
        }
        record.last_used_at = now;
        Refreshed::Pair(self)
    }

    /// The session after an access token of the generation was shown; `None` if that changes nothing.
    #[must_use]
    pub fn shown(&self, generation: Generation, now: UtcDateTime) -> Option<Self> {
        let is_first = generation == self.record.generation && !self.record.used;
        let record = SessionRecord { used: true, last_used_at: now, ..self.record.clone() };
        is_first.then_some(Self { record })
    }

    /// What storage keeps.
    #[must_use]
    pub const fn record(&self) -> &SessionRecord {
        &self.record
    }

    /// The session that a record was made of. The record is believed.
    #[must_use]
    pub const fn restore(record: SessionRecord) -> Self {
        Self { record }
    }
}

/// A refresh token: 256 random bits in lower-case hexadecimal, opaque to the client, kept only as a hash.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct RefreshToken(String);

impl RefreshToken {
    /// Makes a token of fresh random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 32]) -> Self {
        Self(
            bytes
                .iter()
                .flat_map(|byte| [byte >> 4, byte & 0xf])
                .filter_map(|n| char::from_digit(n.into(), 16))
                .collect(),
        )
    }

    /// The token itself, for the one answer that hands it out.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is stored of it.
    #[must_use]
    pub fn hash(&self) -> RefreshTokenHash {
        RefreshTokenHash::of(&self.0)
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshToken([redacted])")
    }
}

/// The SHA-256 of a refresh token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RefreshTokenHash([u8; 32]);

impl RefreshTokenHash {
    /// Of what somebody presents as a token, whatever it is. A plain SHA-256 is enough: a token has 256 bits of entropy.
    #[must_use]
    pub fn of(presented: &str) -> Self {
        Self(Sha256::digest(presented.as_bytes()).into())
    }

    /// From storage.
    #[must_use]
    pub const fn restore(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// The digest, for storage.
    #[must_use]
    pub const fn digest(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for RefreshTokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshTokenHash([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::utc_datetime;
    use uuid::Uuid;

    use super::*;
    use crate::ClientAddress;

    const NOW: UtcDateTime = utc_datetime!(2026-11-24 12:00);
    const LIVES: SessionLives =
        SessionLives { idle: Duration::from_hours(24), absolute: Duration::from_hours(72) };

    fn session() -> Session {
        let origin = Origin { fingerprint: None, address: ClientAddress::of([192, 0, 2, 1].into()) };
        Session::open(SessionId::new(Uuid::nil()), UserId::new(Uuid::nil()), origin, NOW)
    }

    fn token(number: u8, generation: Generation) -> HeldToken {
        let hash = RefreshTokenHash::restore([number; 32]);
        HeldToken { hash, generation, expires_at: NOW + LIVES.idle }
    }

    fn pair(session: Session, token: &HeldToken) -> Session {
        match session.refresh(token, &LIVES, NOW, NOW) {
            Refreshed::Pair(session) => session,
            other => panic!("{other:?}"),
        }
    }

    fn is_reused(session: Session, token: &HeldToken) -> bool {
        matches!(session.refresh(token, &LIVES, NOW, NOW), Refreshed::Reused)
    }

    #[test]
    fn a_lost_answer_is_given_again_until_its_successor_is_used() {
        let rotated = pair(session(), &token(1, 0));
        let again = pair(rotated, &token(1, 0));
        assert_eq!(again.generation(), 1);
        // Either answer may be the one that arrived.
        let on = pair(again.clone(), &token(3, 1));
        assert!(is_reused(on, &token(1, 0)));
        let shown = again.shown(1, NOW).unwrap();
        assert!(is_reused(shown, &token(1, 0)));
    }

    #[test]
    fn who_presented_a_token_before_its_successor_was_used_is_no_thief_and_gets_nothing() {
        let moment = |second| NOW + Duration::from_secs(second);
        let Refreshed::Pair(rotated) = session().refresh(&token(1, 0), &LIVES, moment(1), moment(1)) else {
            panic!("it is the newest");
        };
        let shown = rotated.shown(1, moment(3)).unwrap();
        let refresh = |presented: &HeldToken, second| {
            shown.clone().refresh(presented, &LIVES, moment(second), moment(4))
        };
        assert!(matches!(refresh(&token(1, 0), 2), Refreshed::Overtaken));
        assert!(matches!(refresh(&token(1, 0), 3), Refreshed::Reused));
        let before = HeldToken { generation: 0, ..token(9, 0) };
        assert!(matches!(refresh(&before, 2), Refreshed::Reused), "another of the generation");
        let shown_by_a_clock_ahead = rotated.shown(1, moment(5)).unwrap();
        let refreshed = shown_by_a_clock_ahead.refresh(&token(1, 0), &LIVES, moment(2), moment(4));
        assert!(matches!(refreshed, Refreshed::Reused));
    }

    #[test]
    fn of_several_answers_one_carries_on() {
        let on = pair(pair(session(), &token(1, 0)), &token(2, 1));
        assert!(is_reused(on.clone(), &token(3, 1)), "another answer to the same token");
        assert!(is_reused(on.clone(), &token(1, 0)));
        pair(on, &token(2, 1));
    }

    #[test]
    fn an_access_token_of_the_past_says_nothing_of_the_newest() {
        let rotated = pair(session(), &token(1, 0));
        assert!(rotated.shown(0, NOW).is_none());
        let shown = rotated.shown(1, NOW).unwrap();
        assert!(shown.shown(1, NOW).is_none(), "once is enough");
    }

    #[test]
    fn lives_end() {
        let late = NOW + LIVES.idle;
        assert!(matches!(session().refresh(&token(1, 0), &LIVES, late, late), Refreshed::Expired));
        let fresh = HeldToken { expires_at: NOW + LIVES.absolute * 2, ..token(1, 0) };
        let end = NOW + LIVES.absolute;
        assert!(matches!(session().refresh(&fresh, &LIVES, end, end), Refreshed::Expired));
        let near_the_end = NOW + LIVES.absolute - Duration::from_secs(5);
        assert_eq!(session().expiry(LIVES.idle, &LIVES, near_the_end), NOW + LIVES.absolute);
    }

    proptest! {
        /// Whatever is presented in whatever order: a token is exchanged only while nothing that came of it was used.
        #[test]
        fn a_token_whose_successor_was_used_is_always_caught(presented in prop::collection::vec(0_usize..6, 1..24)) {
            let mut session = session();
            // Every token that was handed out, with whether something that it was exchanged for was spent.
            let mut tokens = vec![(token(0, 0), false, None)];
            for choice in presented {
                let index = choice % tokens.len();
                let (presented, successor_used, parent) = tokens[index];
                match session.clone().refresh(&presented, &LIVES, NOW, NOW) {
                    Refreshed::Pair(next) => {
                        prop_assert!(!successor_used);
                        session = next;
                        if let Some(parent) = parent {
                            let parent: usize = parent;
                            tokens[parent].1 = true;
                        }
                        let hash = u8::try_from(tokens.len()).unwrap();
                        tokens.push((token(hash, session.generation()), false, Some(index)));
                    }
                    Refreshed::Reused => break,
                    Refreshed::Expired | Refreshed::Overtaken => prop_assert!(false),
                }
            }
        }
    }
}
