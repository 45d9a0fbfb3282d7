//! Whether what is there is what was acknowledged, and no more than what may be there.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::JoinSet;

use crate::faults::{Fault, World, explain};
use crate::ledger::{Step, Story};
use crate::post::{Letter, Post, Way};
use crate::say;

mod api;
mod database;

use api::Seen;
use database::{Account, State};

/// How long the outbox may take to empty once everything runs: longer than a message in doubt waits for its report.
const PATIENCE: Duration = Duration::from_mins(1);

/// People whose API is read at the same time.
const READERS: usize = 16;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// Acknowledged, and not there.
    lost: Vec<String>,
    /// There, and nobody asked for it, or it was refused.
    unasked: Vec<String>,
    /// Against what always holds, such as one account for each phone.
    broken: Vec<String>,
    /// Second copies without a crash to explain them.
    unexplained: Vec<String>,
    /// People who did not come to the end, however often they tried.
    stuck: Vec<String>,
    delivered: usize,
    doubled: usize,
}

impl Audit {
    pub(crate) async fn run(world: &World, stories: &[Story], faults: &[Fault]) -> anyhow::Result<Self> {
        let mut audit = Self::default();
        let waiting = database::wait_until_sent(&world.database, PATIENCE).await?;
        if waiting > 0 {
            audit.broken.push(format!("{waiting} messages are still in the outbox"));
        }
        world.post.collect();
        let state = State::read(&world.database).await?;
        let seen = read_api(world, stories).await?;
        say(&format!(
            "auditing {} registrations and {} accounts",
            state.registrations.len(),
            state.accounts.len()
        ))?;

        audit.whole(&state, stories);
        audit.given_up(&state);
        for story in stories {
            audit.steps(&state, story);
            audit.api(&state, story, seen.get(&story.number));
            audit.deliveries(&world.post, story);
            if !story.is_complete() {
                audit.stuck.push(format!("{} at {:?}", story.phone, story.end()));
            }
        }
        audit.letters(world, &state, stories, faults);
        Ok(audit)
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.findings().into_iter().all(|(_, found)| found.is_empty())
    }

    pub(crate) fn found_a_loss(&self) -> bool {
        !self.lost.is_empty()
    }

    pub(crate) fn findings(&self) -> [(&'static str, &[String]); 5] {
        [
            ("lost", &self.lost),
            ("unasked", &self.unasked),
            ("broken", &self.broken),
            ("unexplained", &self.unexplained),
            ("stuck", &self.stuck),
        ]
    }

    pub(crate) fn messages(&self) -> String {
        format!(
            "{} delivered, {} of them twice ({} without a crash beside it)",
            self.delivered,
            self.doubled,
            self.unexplained.len(),
        )
    }

    /// What concerns nobody alone.
    fn whole(&mut self, state: &State, stories: &[Story]) {
        let known: HashSet<_> = stories.iter().map(|story| story.phone.as_str()).collect();
        let twice = state.accounts.iter().filter(|(_, accounts)| accounts.len() > 1);
        self.broken.extend(twice.map(|(phone, accounts)| format!("{phone} has {} accounts", accounts.len())));
        let phones = state.accounts.keys().chain(state.registrations.keys()).map(String::as_str);
        let strangers: HashSet<_> = phones.filter(|phone| !known.contains(phone)).collect();
        self.unasked.extend(strangers.into_iter().map(|phone| format!("nobody signed up with {phone}")));
        let count = i64::try_from(state.accounts.values().flatten().count()).unwrap_or(i64::MAX);
        if state.used_numbers != count {
            self.broken.push(format!("{} used numbers for {count} accounts", state.used_numbers));
        }
    }

    /// A code lives for ten minutes and a link for a day, and no fault lasts a minute, so nothing is given up.
    fn given_up(&mut self, state: &State) {
        for (count, what) in
            [(state.dead_letters, "messages are dead letters"), (state.expired, "messages have expired")]
        {
            if count > 0 {
                self.broken.push(format!("{count} {what}"));
            }
        }
    }

    /// Each step in the database, as far as the person has come.
    fn steps(&mut self, state: &State, story: &Story) {
        let registration = state.registrations.get(&story.phone);
        self.compare(story, Step::SignUp, registration.is_some());
        let account = state.account(&story.phone);
        self.compare(story, Step::ConfirmPhone, account.is_some());
        if story.users.len() > 1 {
            self.broken.push(format!("{} was given the accounts {:?}", story.phone, story.users));
        }
        let of = |is: fn(&Account, &Story) -> bool| account.is_some_and(|account| is(account, story));
        self.compare(
            story,
            Step::AddEmail,
            of(|account, story| account.email.as_ref() == Some(&story.email)),
        );
        self.compare(story, Step::ConfirmEmail, of(|account, _| account.email_confirmed));
        let is_patched = of(|account, story| account.street.as_deref() == Some(story.street().as_str()));
        self.compare(story, Step::PatchProfile, is_patched);
        let Some(account) = account else {
            return;
        };
        let opened = registration.and_then(|opened| opened.opened_user.as_ref());
        let is_opened = opened == Some(&account.user) && story.users.iter().all(|user| *user == account.user);
        let completes = account.email_confirmed && account.details == database::DETAILS;
        for (holds, sentence) in [
            (is_opened, "the account is not the one that the confirmation opened"),
            (account.sessions > 0, "there is no session"),
            (account.passwords == 1, "there is not one password"),
            (account.details == 0 || account.details == database::DETAILS, "the profile was changed by half"),
            ((account.kyc == "KYC_0") == completes, "the level does not follow from what is known"),
        ] {
            if !holds {
                self.broken.push(format!("{}: {sentence}", story.phone));
            }
        }
    }

    fn compare(&mut self, story: &Story, step: Step, is_there: bool) {
        let tries = story.step(step);
        if tries.was_acknowledged() && !is_there {
            self.lost.push(format!("{step:?} of {}", story.phone));
        }
        if is_there && !tries.may_be_done() {
            self.unasked.push(format!("{step:?} of {}", story.phone));
        }
    }

    /// The API shows what the database holds, to everybody who was given a token.
    fn api(&mut self, state: &State, story: &Story, seen: Option<&Seen>) {
        let Some(seen) = seen else {
            return;
        };
        let account = state.account(&story.phone);
        match (seen, account) {
            (Seen::Nothing { status }, _) => {
                self.lost.push(format!("{}: the session's token is answered {status}", story.phone));
            }
            (Seen::Account(shown), Some(account)) if shown == account => {}
            (Seen::Account(_), _) => {
                self.broken.push(format!("{}: the API shows something else than is stored", story.phone));
            }
        }
    }

    /// An acknowledged step's message has arrived.
    fn deliveries(&mut self, post: &Post, story: &Story) {
        for (step, way, to) in
            [(Step::SignUp, Way::Sms, &story.phone), (Step::AddEmail, Way::Mail, &story.email)]
        {
            if story.step(step).was_acknowledged() && post.letters(way, to).is_empty() {
                self.lost.push(format!("the message of {step:?} of {}", story.phone));
            }
        }
    }

    /// Each message has a reason, and a second copy too.
    fn letters(&mut self, world: &World, state: &State, stories: &[Story], faults: &[Fault]) {
        let emails: HashSet<_> =
            state.accounts.values().flatten().filter_map(|account| account.email.as_deref()).collect();
        let by_receiver: HashMap<_, _> =
            stories.iter().flat_map(|story| [(&story.phone, story), (&story.email, story)]).collect();
        for (way, step) in [(Way::Sms, Step::SignUp), (Way::Mail, Step::AddEmail)] {
            for receiver in world.post.receivers(way) {
                let is_there = match way {
                    Way::Sms => state.registrations.contains_key(&receiver),
                    Way::Mail => emails.contains(receiver.as_str()),
                };
                let was_asked =
                    by_receiver.get(&receiver).is_some_and(|story| story.step(step).may_be_done());
                if !is_there || !was_asked {
                    self.unasked.push(format!("a message to {receiver}"));
                }
                self.copies(way, &receiver, &world.post.letters(way, &receiver), faults);
            }
        }
    }

    fn copies(&mut self, way: Way, receiver: &str, letters: &[Letter], faults: &[Fault]) {
        let mut last = HashMap::<&str, Instant>::new();
        for letter in letters {
            match last.insert(&letter.identity, letter.at) {
                None => self.delivered += 1,
                Some(before) => {
                    self.doubled += 1;
                    if !explain(faults, way, before) {
                        let apart = (letter.at - before).as_secs_f64();
                        self.unexplained.push(format!("{receiver} got a message twice, {apart:.1} s apart"));
                    }
                }
            }
        }
    }
}

/// What the API shows to each person with a token, by the person's number.
async fn read_api(world: &World, stories: &[Story]) -> anyhow::Result<HashMap<u32, Seen>> {
    let client = api::client()?;
    let mut reading = JoinSet::new();
    let mut seen = HashMap::new();
    let with_token = stories.iter().filter_map(|story| Some((story, story.token.clone()?)));
    for (story, token) in with_token {
        while reading.len() >= READERS {
            let (number, shown) = reading.join_next().await.context("nobody reads")??;
            seen.insert(number, shown?);
        }
        let (number, client, fleet) = (story.number, client.clone(), world.fleet.clone());
        reading.spawn(async move { (number, api::read(&client, &fleet, &token).await) });
    }
    while let Some(read) = reading.join_next().await {
        let (number, shown) = read?;
        seen.insert(number, shown?);
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Breakage;
    use crate::ledger::{Ledger, Outcome};

    #[test]
    fn acknowledged_is_there_and_there_is_acknowledged_or_in_doubt() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::create(&directory.path().join("steps.log")).unwrap();
        for (outcomes, is_there, found) in [
            (&[Outcome::Acknowledged][..], true, (0, 0)),
            (&[Outcome::InDoubt, Outcome::Acknowledged, Outcome::Refused(2)], false, (1, 0)),
            (&[Outcome::InDoubt], true, (0, 0)),
            (&[Outcome::InDoubt], false, (0, 0)),
            (&[Outcome::Refused(167), Outcome::NotReached], true, (0, 1)),
            (&[Outcome::Refused(167)], false, (0, 0)),
            (&[], true, (0, 1)),
        ] {
            let mut story = Story::of(1);
            for outcome in outcomes {
                ledger.note(&mut story, Step::SignUp, 0, *outcome);
            }
            let mut audit = Audit::default();
            audit.compare(&story, Step::SignUp, is_there);
            assert_eq!((audit.lost.len(), audit.unasked.len()), found, "{outcomes:?}");
        }
    }

    #[test]
    fn a_message_that_was_given_up_is_a_finding() {
        for (dead_letters, expired, found) in [(0, 0, 0), (1, 0, 1), (0, 1, 1), (2, 3, 2)] {
            let mut audit = Audit::default();
            audit.given_up(&State { dead_letters, expired, ..State::default() });
            assert_eq!(audit.broken.len(), found);
            assert_eq!(audit.is_clean(), found == 0);
        }
    }

    #[test]
    fn a_second_copy_needs_a_crash_right_after_the_first() {
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        let kill = Fault { what: Breakage::Instance(0), from: after(10), to: after(12) };
        let letter = |identity: &str, seconds| {
            let (identity, content) = (identity.to_owned(), String::new());
            Letter { identity, content, at: after(seconds) }
        };
        for (letters, (delivered, doubled, unexplained)) in [
            (vec![letter("a", 9), letter("b", 20)], (2, 0, 0)),
            (vec![letter("a", 9), letter("a", 30)], (1, 1, 0)),
            (vec![letter("a", 7), letter("a", 30)], (1, 1, 1)),
            (vec![letter("a", 9), letter("a", 30), letter("a", 31)], (1, 2, 1)),
        ] {
            let mut audit = Audit::default();
            audit.copies(Way::Sms, "+447400000001", &letters, std::slice::from_ref(&kill));
            assert_eq!(
                (audit.delivered, audit.doubled, audit.unexplained.len()),
                (delivered, doubled, unexplained)
            );
        }
    }

    #[test]
    fn who_ends_while_the_database_is_away_has_recorded_nothing_since() {
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        let fault = |what, from, to| Fault { what, from: after(from), to: after(to) };
        let unexplained = |database: [u64; 2], sent| {
            let [away, back] = database;
            let faults = [fault(Breakage::Instance(0), 30, 32), fault(Breakage::Database, away, back)];
            let letter = |at| Letter { identity: "a".to_owned(), content: String::new(), at };
            let mut audit = Audit::default();
            audit.copies(Way::Mail, "a@example.com", &[letter(after(sent)), letter(after(60))], &faults);
            audit.unexplained.len()
        };
        assert_eq!([19, 20, 25].map(|sent| unexplained([20, 31], sent)), [0, 0, 0]);
        assert_eq!(unexplained([20, 31], 18), 1, "it was recorded before");
        assert_eq!(unexplained([20, 29], 20), 0, "it had just come back");
        assert_eq!(unexplained([20, 28], 20), 1, "it had been back for long enough");
        assert_eq!(unexplained([31, 33], 28), 1, "it went away later");
    }
}
