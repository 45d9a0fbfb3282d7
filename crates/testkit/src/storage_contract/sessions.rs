//! Sessions: how they are opened, carried on and ended.

use std::sync::Arc;

use futures_util::future::join_all;
use time::UtcDateTime;
use vestibule_domain::{ClientAddress, Origin, RefreshToken, RefreshTokenHash, Session, SessionRecord};
use vestibule_port_storage::{
    Changes, CommitError, EndSessions, NewRefreshToken, Save, Storage, Sweep, Version,
};

use super::{
    NOW, account, after, id, origin, phone, race, saving_account, saving_registration, session, session_id,
    sign_up, token, user,
};

fn opening(session: Session) -> Changes {
    Changes { session: Some(Save::new(session)), ..Changes::default() }
}

fn ending(end: EndSessions) -> Changes {
    Changes { end_sessions: Some(end), ..Changes::default() }
}

/// Opens an account for each user.
async fn accounts(storage: &impl Storage, users: &[u32]) {
    for &number in users {
        storage.commit(saving_account(Save::new(account(number)))).await.unwrap();
    }
}

/// Opens the session with one refresh token, both of its own number.
async fn opened(storage: &impl Storage, number: u8, of: u32) -> RefreshTokenHash {
    let token = token(number, number.into(), after(3600));
    let hash = token.hash;
    let changes = opening(session(number.into(), of));
    storage.commit(Changes { refresh_token: Some(token), ..changes }).await.unwrap();
    hash
}

/// The numbers of the user's sessions that live, all that are asked for being one of 1 to 9.
async fn living(storage: &impl Storage, of: u32) -> Vec<u32> {
    let sessions = storage.sessions(user(of)).await.unwrap();
    (1..10).filter(|&number| sessions.iter().any(|session| session.id().uuid() == id(number))).collect()
}

fn hash(number: u8) -> RefreshTokenHash {
    RefreshToken::from_random([number; 32]).hash()
}

/// The session after it was refreshed so often.
fn rotated(session: &Session, generation: u32, used: bool, at: UtcDateTime) -> Session {
    let record = session.record().clone();
    Session::restore(SessionRecord { generation, used, spent: Some(hash(9)), last_used_at: at, ..record })
}

pub async fn an_account_is_seen_through_its_own_session_only<S: Storage>(storage: Arc<S>) {
    accounts(&*storage, &[1, 2]).await;
    for number in 1..3 {
        storage.commit(opening(session(number, number))).await.unwrap();
    }
    let seen = async |of, number| storage.account_of_session(user(of), session_id(number)).await.unwrap();
    let signed_in = seen(1, 1).await.unwrap();
    assert_eq!(signed_in.account.value, account(1));
    assert_eq!(signed_in.session.value, session(1, 1));
    for (of, number) in [(1, 2), (2, 1), (1, 9), (9, 1), (9, 9)] {
        assert!(seen(of, number).await.is_none(), "user {of}, session {number}");
    }
}

pub async fn those_who_ask_at_once_are_each_answered_what_they_asked<S: Storage>(storage: Arc<S>) {
    accounts(&*storage, &[1, 2]).await;
    for number in 1..3 {
        opened(&*storage, number, number.into()).await;
        let sign_up = sign_up(None, number.into(), number.into(), NOW);
        storage.commit(saving_registration(Save::new(sign_up))).await.unwrap();
    }
    // Some ask the same, and some what is not there.
    let asked = [(1, 1), (2, 2), (1, 1), (1, 2), (2, 1), (9, 9), (2, 2)];
    let seen = asked.map(|(of, number)| storage.account_of_session(user(of), session_id(number)));
    for ((of, number), seen) in asked.into_iter().zip(join_all(seen).await) {
        let seen = seen.unwrap().map(|seen| (seen.account.value, seen.session.value));
        let expected = (of == number && of < 3).then(|| (account(of), session(number, of)));
        assert_eq!(seen, expected, "user {of}, session {number}");
    }
    let tokens = [1, 2, 1, 9, 2];
    let (hashes, phones) = (tokens.map(hash), tokens.map(|number| phone(number.into())));
    let states = join_all(hashes.each_ref().map(|hash| storage.refresh_state(hash)));
    let registrations = join_all(phones.each_ref().map(|phone| storage.registration(phone)));
    let (states, registrations) = tokio::join!(states, registrations);
    for (number, (state, registration)) in tokens.into_iter().zip(states.into_iter().zip(registrations)) {
        let (state, registration) = (state.unwrap(), registration.unwrap());
        assert_eq!(state.map(|state| state.token.hash), (number < 3).then(|| hash(number)));
        let expected = (number < 3).then(|| sign_up(None, number.into(), number.into(), NOW));
        assert_eq!(registration.map(|loaded| loaded.value), expected);
    }
}

pub async fn a_session_is_read_as_it_was_saved<S: Storage>(storage: Arc<S>) {
    accounts(&*storage, &[1]).await;
    let v6 = Origin { fingerprint: None, address: ClientAddress::of("2001:db8::1".parse().unwrap()) };
    let first = Session::open(session_id(1), user(1), v6, NOW);
    storage.commit(opening(first.clone())).await.unwrap();
    let mut version = Version(1);
    let millisecond = after(5) + std::time::Duration::from_millis(123);
    let second = rotated(&first, 1, false, millisecond);
    let states = [second.clone(), rotated(&second, u32::MAX, true, millisecond)];
    let mut expected = first;
    for next in states {
        let loaded = storage.account_of_session(user(1), session_id(1)).await.unwrap().unwrap().session;
        assert_eq!((&loaded.value, loaded.version), (&expected, version));
        let saving = Changes { session: Some(Save::over(version, next.clone())), ..Changes::default() };
        storage.commit(saving).await.unwrap();
        (expected, version) = (next, Version(version.0 + 1));
    }
    let loaded = storage.account_of_session(user(1), session_id(1)).await.unwrap().unwrap().session;
    assert_eq!(loaded.value, expected);
    assert_eq!(storage.sessions(user(1)).await.unwrap(), [expected]);
}

pub async fn a_session_is_opened_once_and_for_an_account<S: Storage>(storage: Arc<S>) {
    accounts(&*storage, &[1, 2]).await;
    storage.commit(opening(session(1, 1))).await.unwrap();
    for taken in [session(1, 1), session(1, 2)] {
        assert_eq!(storage.commit(opening(taken)).await, Err(CommitError::Conflict));
    }
    assert_eq!(storage.commit(opening(session(2, 9))).await, Err(CommitError::Conflict));
    for (number, replaces) in [(1, Version(2)), (3, Version(1))] {
        let stale = Save::over(replaces, session(number, 1));
        let stale = Changes { session: Some(stale), ..Changes::default() };
        assert_eq!(storage.commit(stale).await, Err(CommitError::Conflict));
    }
    let of_none = Changes { refresh_token: Some(token(3, 3, after(60))), ..Changes::default() };
    assert_eq!(storage.commit(of_none).await, Err(CommitError::Conflict));
    assert!(storage.refresh_state(&hash(3)).await.unwrap().is_none());
    assert_eq!(living(&*storage, 1).await, [1]);
    assert!(living(&*storage, 2).await.is_empty());
}

pub async fn of_64_refreshes_over_one_version_one_succeeds<S: Storage + 'static>(storage: Arc<S>) {
    accounts(&*storage, &[1]).await;
    storage.commit(opening(session(1, 1))).await.unwrap();
    let (won, lost) = race(&storage, |number| {
        let token = token(u8::try_from(100 + number).unwrap(), 1, after(60));
        Changes {
            session: Some(Save::over(Version(1), rotated(&session(1, 1), 1, false, after(number.into())))),
            refresh_token: Some(NewRefreshToken { generation: 1, ..token }),
            ..Changes::default()
        }
    })
    .await;
    assert_eq!(won, 1);
    assert!(lost.iter().all(|error| *error == CommitError::Conflict), "{lost:?}");
    let mut tokens = 0;
    for number in 100..164 {
        tokens += usize::from(storage.refresh_state(&hash(number)).await.unwrap().is_some());
    }
    assert_eq!(tokens, 1, "those who lost have handed out nothing");
}

pub async fn a_refresh_token_is_found_with_its_session_and_account<S: Storage>(storage: Arc<S>) {
    accounts(&*storage, &[1]).await;
    assert!(storage.refresh_state(&hash(1)).await.unwrap().is_none());
    opened(&*storage, 1, 1).await;
    let next = NewRefreshToken {
        generation: 7,
        issued_at: after(60),
        ..token(2, 1, after(99) + std::time::Duration::from_millis(1))
    };
    let rotated = rotated(&session(1, 1), 7, false, after(60));
    let refreshed = Changes {
        session: Some(Save::over(Version(1), rotated.clone())),
        refresh_token: Some(next.clone()),
        ..Changes::default()
    };
    storage.commit(refreshed).await.unwrap();
    // The first was spent and is known all the same.
    for kept in [token(1, 1, after(3600)), next] {
        let state = storage.refresh_state(&kept.hash).await.unwrap().unwrap();
        assert_eq!(state.token, kept);
        assert_eq!(state.signed_in.account.value, account(1));
        assert_eq!(state.signed_in.session.value, rotated);
        assert_eq!(
            (state.signed_in.account.version, state.signed_in.session.version),
            (Version(1), Version(2))
        );
    }
}

pub async fn one_session_ends_and_no_other<S: Storage>(storage: Arc<S>) {
    accounts(&*storage, &[1, 2]).await;
    for (number, of) in [(1, 1), (2, 1), (3, 2)] {
        opened(&*storage, number, of).await;
    }
    // Neither another's session nor one that is not there can be ended.
    for nothing in [EndSessions::One(user(1), session_id(3)), EndSessions::One(user(1), session_id(9))] {
        assert_eq!(storage.commit(ending(nothing)).await, Err(CommitError::Conflict));
    }
    assert_eq!((living(&*storage, 1).await, living(&*storage, 2).await), (vec![1, 2], vec![3]));
    let end = || ending(EndSessions::One(user(1), session_id(1)));
    storage.commit(end()).await.unwrap();
    assert_eq!(storage.commit(end()).await, Err(CommitError::Conflict), "it ends once");
    assert_eq!((living(&*storage, 1).await, living(&*storage, 2).await), (vec![2], vec![3]));
    assert!(storage.account_of_session(user(1), session_id(1)).await.unwrap().is_none());
    assert!(storage.refresh_state(&hash(1)).await.unwrap().is_none());
    assert!(storage.refresh_state(&hash(2)).await.unwrap().is_some());
    assert!(storage.account(user(1)).await.unwrap().is_some());
}

pub async fn all_sessions_end_but_one<S: Storage>(storage: Arc<S>) {
    accounts(&*storage, &[1, 2]).await;
    for (number, of) in [(1, 1), (2, 1), (3, 1), (4, 2)] {
        opened(&*storage, number, of).await;
    }
    storage.commit(ending(EndSessions::AllBut(user(1), Some(session_id(2))))).await.unwrap();
    assert_eq!((living(&*storage, 1).await, living(&*storage, 2).await), (vec![2], vec![4]));
    for (number, is_known) in [(1, false), (2, true), (3, false), (4, true)] {
        let state = storage.refresh_state(&hash(number)).await.unwrap();
        assert_eq!(state.is_some(), is_known, "token {number}");
    }
    storage.commit(ending(EndSessions::AllBut(user(1), Some(session_id(4))))).await.unwrap();
    assert_eq!((living(&*storage, 1).await, living(&*storage, 2).await), (vec![], vec![4]));
    storage.commit(ending(EndSessions::AllBut(user(2), None))).await.unwrap();
    assert!(living(&*storage, 2).await.is_empty());
    storage.commit(ending(EndSessions::AllBut(user(2), None))).await.unwrap();
    let late = Sweep { now: after(99_999), messages_before: NOW, facts_before: NOW, batch: 100 };
    assert_eq!(storage.sweep(late).await.unwrap(), 0, "their tokens went with them");
}

pub async fn a_session_that_is_opened_as_others_end_lives<S: Storage>(storage: Arc<S>) {
    accounts(&*storage, &[1]).await;
    opened(&*storage, 1, 1).await;
    opened(&*storage, 2, 1).await;
    let changes = Changes {
        end_sessions: Some(EndSessions::AllBut(user(1), None)),
        refresh_token: Some(token(3, 3, after(60))),
        ..opening(session(3, 1))
    };
    storage.commit(changes).await.unwrap();
    assert_eq!(living(&*storage, 1).await, [3]);
    assert!(storage.refresh_state(&hash(3)).await.unwrap().is_some());
    // So does the one that is refreshed and spared.
    opened(&*storage, 4, 1).await;
    let changes = Changes {
        end_sessions: Some(EndSessions::AllBut(user(1), Some(session_id(3)))),
        session: Some(Save::over(Version(1), rotated(&session(3, 1), 1, false, after(9)))),
        refresh_token: Some(NewRefreshToken { generation: 1, ..token(5, 3, after(60)) }),
        ..Changes::default()
    };
    storage.commit(changes).await.unwrap();
    assert_eq!(living(&*storage, 1).await, [3]);
    assert!(storage.refresh_state(&hash(5)).await.unwrap().is_some());
}

pub async fn an_ended_session_is_not_carried_on<S: Storage>(storage: Arc<S>) {
    accounts(&*storage, &[1]).await;
    opened(&*storage, 1, 1).await;
    storage.commit(ending(EndSessions::One(user(1), session_id(1)))).await.unwrap();
    let saving = Save::over(Version(1), rotated(&session(1, 1), 1, false, after(1)));
    let saving = Changes { session: Some(saving), ..Changes::default() };
    assert_eq!(storage.commit(saving).await, Err(CommitError::Conflict));
    let token = Changes { refresh_token: Some(token(2, 1, after(60))), ..Changes::default() };
    assert_eq!(storage.commit(token).await, Err(CommitError::Conflict));
    assert!(storage.refresh_state(&hash(2)).await.unwrap().is_none());
    assert!(living(&*storage, 1).await.is_empty());
}

pub async fn a_refused_commit_ends_no_session<S: Storage>(storage: Arc<S>) {
    accounts(&*storage, &[1]).await;
    opened(&*storage, 1, 1).await;
    let end = EndSessions::AllBut(user(1), None);
    let refused = Changes { end_sessions: Some(end), ..saving_account(Save::over(Version(9), account(1))) };
    assert_eq!(storage.commit(refused).await, Err(CommitError::Conflict));
    assert!(storage.refresh_state(&hash(1)).await.unwrap().is_some());
    assert_eq!(living(&*storage, 1).await, [1]);
}

pub async fn sessions_are_listed_the_newest_first<S: Storage>(storage: Arc<S>) {
    accounts(&*storage, &[1, 2]).await;
    let at = |number, seconds| Session::open(session_id(number), user(1), origin(), after(seconds));
    for session in [at(1, 60), at(2, 120), at(3, 0), session(4, 2)] {
        storage.commit(opening(session)).await.unwrap();
    }
    assert_eq!(storage.sessions(user(1)).await.unwrap(), [at(2, 120), at(1, 60), at(3, 0)]);
    assert!(storage.sessions(user(9)).await.unwrap().is_empty());
}
