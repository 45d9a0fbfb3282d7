//! What the steps of a registration, and those of coming back, cost: counted on the wire, by a proxy between the adapter and the server.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failure fails the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use time::macros::utc_datetime;
use time::{Date, UtcDateTime};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use url::Url;
use uuid::Uuid;
use vestibule_domain::audit::{Event, Fact};
use vestibule_domain::limits::{Charge, Limit, Scope, Step, Unit};
use vestibule_domain::pumping::{Mode, Part, PumpingGuard, SentCode, Traffic};
use vestibule_domain::quota::Quota;
use vestibule_domain::registration::{Confirm, Confirmation, NumberUse, Others, Registration, Rules, SignUp};
use vestibule_domain::sign_in::SignInGuard;
use vestibule_domain::spending::{Money, Purse, Spend, Unsent, Window};
use vestibule_domain::{
    Account, AccountKind, AttemptId, Claim, ClientAddress, FactId, Generation, MessageId, OneTimeCode,
    OneTimeCodes, Origin, PasswordHash, PhoneNumber, ProfileField, ProfilePatch, RefreshToken, Refreshed,
    Session, SessionId, SessionLives, UserId,
};
use vestibule_port_storage::{
    Changes, EndSessions, Erasure, NewPassword, NewRefreshToken, NumberDigest, Save, Storage as _,
};
use vestibule_postgres::{Migrate, Postgres};
use vestibule_testkit::postgres::TestDatabases;

const NOW: UtcDateTime = utc_datetime!(2026-11-24 12:00);
const TODAY: Date = NOW.date();
const QUOTA: Quota = Quota { burst: 100, period: Duration::from_hours(24) };
const RULES: Rules = Rules {
    code_ttl: Duration::from_mins(10),
    code_guesses: 5,
    resend_cooldown: Duration::from_mins(1),
    max_messages: 5,
    sign_ups: QUOTA,
    guesses: QUOTA,
    places: 20,
};

const LIVES: SessionLives =
    SessionLives { idle: Duration::from_hours(1), absolute: Duration::from_hours(24) };

/// What the adapter has sent.
#[derive(Default)]
struct Sent {
    /// `Parse`: statements that were prepared.
    parses: AtomicU32,
    /// `Sync`: statements that were run, and answered.
    syncs: AtomicU32,
}

impl Sent {
    fn take(&self) -> (u32, u32) {
        (self.parses.swap(0, Ordering::SeqCst), self.syncs.swap(0, Ordering::SeqCst))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_is_a_read_and_a_commit_and_prepares_nothing_twice() {
    let database =
        TestDatabases::create(async |url| drop(Postgres::open(url, 1, Migrate::Yes).await.unwrap()));
    let database = database.await.unwrap();
    let sent = Arc::new(Sent::default());
    let url = through_proxy(&database.url, Arc::clone(&sent)).await;
    let storage = Postgres::open(&url, 1, Migrate::No).await.unwrap();

    walk(&storage, 1, &sent).await;
    for person in 2..5 {
        let steps = walk(&storage, person, &sent).await;
        for (step, parses, syncs) in steps {
            assert_eq!(parses, 0, "{step} has prepared a statement again");
            // The statements of one read leave together.
            let allowed = match step {
                "sign-up, read" => 3,
                "first sign-in, read" | "second sign-in, read" => 2,
                _ => 1,
            };
            assert_eq!(syncs, allowed, "{step} takes more than it needs");
        }
    }
}

/// From a phone number to a changed profile; what each access to storage has sent.
async fn walk(storage: &Postgres, person: u32, sent: &Sent) -> Vec<(&'static str, u32, u32)> {
    let mut steps = Vec::new();
    let mut count = |step| {
        let (parses, syncs) = sent.take();
        steps.push((step, parses, syncs));
    };
    let id = Uuid::from_u128(person.into());
    let phone = PhoneNumber::restore(&format!("+4478712{person:05}")).unwrap();
    let origin = Origin { fingerprint: None, address: ClientAddress::of([192, 0, 2, 1].into()) };
    let limit = Limit { step: Step::SignUp, scope: Scope::Address(origin.address) };
    let mut digest = [0; 32];
    digest[..4].copy_from_slice(&person.to_be_bytes());
    // What was sent before the first step, to open the connections.
    sent.take();

    let (guard, traffic) = (guard(), Traffic::new(&phone, origin.address));
    let mut charges = vec![Charge { limit, quota: QUOTA, unit: Unit::Taken, now: NOW }];
    charges.extend(guard.charges(&traffic, Part::Shared, 0, NOW));
    let limits: Vec<_> = charges.iter().map(|charge| charge.limit).collect();
    storage.sign_up_state(&phone, &NumberDigest(digest), &limits).await.unwrap();
    count("sign-up, read");
    let sign_up = SignUp {
        attempt: AttemptId::new(id),
        phone: phone.clone(),
        password: PasswordHash::new("$argon2id$hash".to_owned()),
        origin,
    };
    let signed_up =
        Registration::sign_up(None, NumberUse::Unused, sign_up, &OneCode, &RULES, NOW).expect("a sign-up");
    let changes = Changes {
        registration: Some(Save::new(signed_up.registration)),
        charges,
        sent_code: Some(sent_code(id, traffic)),
        ..Changes::default()
    };
    storage.commit(changes).await.unwrap();
    count("sign-up, commit");
    // Where the guard only observes.
    let again = Uuid::from_u128(id.as_u128() + (1 << 64));
    let changes = Changes {
        tallies: guard.sent(&traffic, Part::Shared, 0, NOW),
        sent_code: Some(SentCode { message: MessageId::new(again), ..sent_code(id, traffic) }),
        ..Changes::default()
    };
    storage.commit(changes).await.unwrap();
    count("observed code, commit");

    let loaded = storage.registration(&phone).await.unwrap().unwrap();
    count("confirmation, read");
    let confirm = Confirm {
        code: OneTimeCode::parse("000000"),
        claim: Claim { attempt: Some(AttemptId::new(id)), origin },
        user: UserId::new(id),
        session: SessionId::new(id),
        others: Others::Told,
        kind: AccountKind::Customer,
    };
    let Confirmation::Opened { registration, account, password, session, .. } =
        loaded.value.confirm(&confirm, &OneCode, &RULES, NOW)
    else {
        unreachable!("the code is right");
    };
    let (user, session_id) = (account.user(), session.id());
    let changes = Changes {
        registration: Some(Save::over(loaded.version, registration)),
        account: Some(Save::new(*account)),
        password: Some(NewPassword { user, hash: password, set_at: NOW }),
        used_number: Some(NumberDigest(digest)),
        refresh_token: Some(refresh_token(&session)),
        session: Some(Save::new(session)),
        tallies: guard.returned(&traffic, 2, NOW),
        codes_back: Some((AttemptId::new(id), NOW)),
        ..Changes::default()
    };
    storage.commit(changes).await.unwrap();
    count("confirmation, commit");

    let account = storage.account_of_session(user, session_id).await.unwrap().unwrap().account;
    count("profile, read");
    let patch = ProfilePatch::default().with(ProfileField::FirstName, Some("Ada".to_owned()));
    let patched = account.value.patch_profile(&patch, TODAY, 18).unwrap();
    let changes =
        Changes { account: Some(Save::over(account.version, patched.clone())), ..Changes::default() };
    storage.commit(changes).await.unwrap();
    count("profile, commit");
    spend(storage, &phone, &mut count).await;
    come_back(storage, &patched, NumberDigest(digest), &mut count).await;
    steps
}

/// What the money for one message costs. The message itself stays away: others are told of it at a time that nobody knows.
async fn spend(storage: &Postgres, phone: &PhoneNumber, count: &mut impl FnMut(&'static str)) {
    let country = Purse::Country(phone.country().unwrap());
    storage.spent(&[country, Purse::All], NOW).await.unwrap();
    count("spending, read");
    let payment = Spend {
        purse: Purse::Provider("a".to_owned()),
        window: Window::Day,
        start: Window::Day.start(NOW),
        amount: Money::from_micros(9),
        unsent: Unsent::Returned,
        ceiling: Money::from_micros(1_000_000),
        rest: Window::Day.rest(NOW),
    };
    storage.commit(Changes { spends: vec![payment.clone()], ..Changes::default() }).await.unwrap();
    count("payment, commit");
    let corrections = vec![payment.correction(Money::ZERO)];
    storage.commit(Changes { corrections, ..Changes::default() }).await.unwrap();
    count("payment, correction");
}

fn guard() -> PumpingGuard {
    PumpingGuard { mode: Mode::Enforce, ..PumpingGuard::default() }
}

fn sent_code(id: Uuid, traffic: Traffic) -> SentCode {
    let (message, attempt) = (MessageId::new(id), AttemptId::new(id));
    let (part, range_unit) = (Part::Shared, Unit::Taken);
    SentCode { message, attempt, traffic, price: None, part, range_unit, at: NOW }
}

/// From the first sign-in of an account to its end.
async fn come_back(
    storage: &Postgres,
    account: &Account,
    number: NumberDigest,
    count: &mut impl FnMut(&'static str),
) {
    let (user, origin) = (account.user(), *account.opened_from().unwrap());
    let client = Limit { step: Step::PasswordGuess, scope: Scope::Address(origin.address) };
    let mut newest = None;
    // The first makes the guard, the second replaces it.
    for (round, [read, commit]) in (1..).zip([
        ["first sign-in, read", "first sign-in, commit"],
        ["second sign-in, read", "second sign-in, commit"],
    ]) {
        let known = storage.credentials(account.phone(), &[client]).await.unwrap();
        count(read);
        assert_eq!(known.passwords.len(), 1);
        let id = Uuid::from_u128(user.uuid().as_u128() + (round << 64));
        let session = Session::open(SessionId::new(id), user, origin, NOW);
        newest = Some(refresh_token(&session).hash);
        let fact = Fact {
            id: FactId::new(id),
            at: NOW,
            event: Event::SignedIn,
            number,
            phone: account.phone().masked(),
            user: Some(user),
            session: Some(session.id()),
            device: origin.fingerprint,
            address: Some(origin.address),
        };
        let changes = Changes {
            guard: Some(Save {
                value: SignInGuard::new(account.phone().clone()).proven(&origin, NOW),
                replaces: known.guard.map(|guard| guard.version),
            }),
            refresh_token: Some(refresh_token(&session)),
            session: Some(Save::new(session)),
            facts: vec![fact],
            ..Changes::default()
        };
        storage.commit(changes).await.unwrap();
        count(commit);
    }

    let state = storage.refresh_state(&newest.unwrap()).await.unwrap().unwrap();
    count("refresh, read");
    let (account, session) = (state.signed_in.account, state.signed_in.session);
    let Refreshed::Pair(next) = session.value.refresh(&state.token.held(), &LIVES, NOW, NOW) else {
        unreachable!("it was never used");
    };
    let changes = Changes {
        refresh_token: Some(refresh_token(&next)),
        session: Some(Save::over(session.version, next.clone())),
        ..Changes::default()
    };
    storage.commit(changes).await.unwrap();
    count("refresh, commit");

    let others = EndSessions::AllBut(user, Some(next.id()));
    storage.commit(Changes { end_sessions: Some(others), ..Changes::default() }).await.unwrap();
    count("end of sessions, commit");
    let erase = Erasure {
        user,
        replaces: account.version,
        guard: None,
        phone: account.value.phone().clone(),
        number,
    };
    storage.commit(Changes { erase: Some(erase), ..Changes::default() }).await.unwrap();
    count("erasure, commit");
}

/// A refresh token of the session's generation.
fn refresh_token(session: &Session) -> NewRefreshToken {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(session.id().uuid().as_bytes());
    bytes[16..20].copy_from_slice(&session.generation().to_be_bytes());
    NewRefreshToken {
        hash: RefreshToken::from_random(bytes).hash(),
        session: session.id(),
        generation: session.generation(),
        issued_at: NOW,
        expires_at: session.expiry(LIVES.idle, &LIVES, NOW),
    }
}

/// Every code is the same, which is all that this test needs.
struct OneCode;

impl OneTimeCodes for OneCode {
    fn code(&self, _: AttemptId, generation: Generation) -> OneTimeCode {
        OneTimeCode::from_number(generation.into(), 6)
    }

    fn matches(&self, attempt: AttemptId, generation: Generation, candidate: &OneTimeCode) -> bool {
        self.code(attempt, generation) == *candidate
    }
}

/// The URL by which the database is reached through a proxy that counts.
async fn through_proxy(url: &str, sent: Arc<Sent>) -> String {
    let mut url = Url::parse(url).unwrap();
    let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    url.set_host(Some("127.0.0.1")).unwrap();
    url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
    url.query_pairs_mut().append_pair("sslmode", "disable");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (server, sent) = (TcpStream::connect(&server).await.unwrap(), Arc::clone(&sent));
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { copy(&mut from_server, &mut to_client).await });
            tokio::spawn(async move {
                // The first message has no type.
                let mut message = message(&mut from_client, 0).await;
                while let Some(bytes) = message.filter(|bytes| !bytes.is_empty()) {
                    if to_server.write_all(&bytes).await.is_err() {
                        break;
                    }
                    message = self::message(&mut from_client, 1).await;
                    match message.as_ref().and_then(|bytes| bytes.first()) {
                        Some(b'P') => sent.parses.fetch_add(1, Ordering::SeqCst),
                        Some(b'S') => sent.syncs.fetch_add(1, Ordering::SeqCst),
                        _ => 0,
                    };
                }
            });
        }
    });
    url.into()
}

/// The next message, whose length stands behind a type of `at` bytes and counts itself.
async fn message(stream: &mut (impl AsyncRead + Unpin), at: usize) -> Option<Vec<u8>> {
    let mut message = vec![0; at + 4];
    stream.read_exact(&mut message).await.ok()?;
    let length = u32::from_be_bytes(*message.last_chunk()?) as usize;
    message.resize(at + length, 0);
    stream.read_exact(message.get_mut(at + 4..)?).await.ok()?;
    Some(message)
}
