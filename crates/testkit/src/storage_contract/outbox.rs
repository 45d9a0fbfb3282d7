//! Messages on their way out.

use std::sync::Arc;
use std::time::Duration;

use vestibule_domain::{
    Account, AttemptId, Channel, Content, DeliveryState, EmailAddress, EmailVerificationId, Message,
    MessageId, Recipient,
};
use vestibule_port_storage::{Backlog, Changes, Outbox, Report, Reported, Room, Settlement, Storage};

use super::{
    NOW, account, after, confirmed, delivery, id, leased, link_mail, message, phone, report, sent, with_email,
};

pub async fn a_message_is_leased_to_one_caller<S: Storage + Outbox + 'static>(storage: Arc<S>) {
    for number in 0..40 {
        let messages = vec![message(number, NOW)];
        storage.commit(Changes { messages, ..Changes::default() }).await.unwrap();
    }
    let claims: Vec<_> = (0..16)
        .map(|_| {
            let storage = Arc::clone(&storage);
            tokio::spawn(async move {
                storage.claim(Room::for_each(5), Duration::from_mins(1), NOW).await.unwrap()
            })
        })
        .collect();
    let mut claimed = Vec::new();
    for claim in claims {
        claimed.extend(claim.await.unwrap().into_iter().map(|claimed| claimed.message.id));
    }
    claimed.sort();
    let leased = claimed.len();
    claimed.dedup();
    assert_eq!((leased, claimed.len()), (40, 40));
}

pub async fn an_unsettled_message_comes_back_after_its_lease<S: Storage + Outbox>(storage: Arc<S>) {
    assert_eq!(storage.next_due(Room::for_each(1)).await.unwrap(), None);
    let mail = Message {
        recipient: Recipient::Email(EmailAddress::parse("Anna@example.com").unwrap()),
        content: Content::EmailConfirmation { verification: EmailVerificationId::new(id(4)) },
        ..message(2, after(1))
    };
    let notice = Message { content: Content::AlreadyRegistered, ..message(3, after(2)) };
    let messages = vec![message(1, NOW), mail, notice];
    storage.commit(Changes { messages: messages.clone(), ..Changes::default() }).await.unwrap();
    assert_eq!(storage.next_due(Room::for_each(1)).await.unwrap(), Some(NOW));
    let lease = Duration::from_secs(30);
    let first = storage.claim(Room::for_each(9), lease, after(2)).await.unwrap();
    assert_eq!(first.iter().map(|claimed| claimed.message.clone()).collect::<Vec<_>>(), messages);
    assert!(first.iter().all(|claimed| claimed.tries == 1));
    assert!(storage.claim(Room::for_each(9), lease, after(31)).await.unwrap().is_empty());
    assert_eq!(storage.next_due(Room::for_each(1)).await.unwrap(), Some(after(32)));
    let second = storage.claim(Room::for_each(9), lease, after(32)).await.unwrap();
    assert!(second.len() == 3 && second.iter().all(|claimed| claimed.tries == 2));
}

pub async fn a_claim_for_one_channel_leaves_the_others_messages_alone<S: Storage + Outbox>(storage: Arc<S>) {
    // Five mails, and three text messages that are due later.
    let mails = (1..6).map(|number| link_mail(number, "anna@example.com"));
    let messages = mails.chain((6..9).map(|number| message(number, after(number.into())))).collect();
    storage.commit(Changes { messages, ..Changes::default() }).await.unwrap();
    let (sms, mail) = (Room { sms: 2, mail: 0 }, Room { sms: 0, mail: 3 });
    let claim = async |room| {
        let claimed = storage.claim(room, Duration::from_mins(1), after(20)).await.unwrap();
        claimed.iter().map(|claimed| claimed.message.id).collect::<Vec<_>>()
    };
    let ids = |numbers: &[u32]| numbers.iter().map(|&number| MessageId::new(id(number))).collect::<Vec<_>>();
    assert_eq!(storage.next_due(sms).await.unwrap(), Some(after(6)));
    assert_eq!(storage.next_due(mail).await.unwrap(), Some(NOW));
    assert_eq!(claim(sms).await, ids(&[6, 7]));
    assert_eq!(storage.next_due(mail).await.unwrap(), Some(NOW));
    assert_eq!(claim(mail).await, ids(&[1, 2, 3]));
    assert_eq!(claim(Room::for_each(1)).await, ids(&[4, 8]));
    assert_eq!(claim(Room { sms: 9, mail: 0 }).await, []);
    assert_eq!(storage.next_due(sms).await.unwrap(), Some(after(80)));
    assert_eq!(storage.next_due(mail).await.unwrap(), Some(NOW));
    assert_eq!(claim(mail).await, ids(&[5]));
    let nothing = Room::for_each(0);
    assert!(nothing.is_none());
    assert_eq!((storage.next_due(nothing).await.unwrap(), claim(nothing).await), (None, vec![]));
}

pub async fn a_late_settlement_does_nothing<S: Storage + Outbox>(storage: Arc<S>) {
    storage.commit(Changes { messages: vec![message(1, NOW)], ..Changes::default() }).await.unwrap();
    let lease = Duration::from_secs(30);
    storage.claim(Room::for_each(1), lease, NOW).await.unwrap();
    storage.claim(Room::for_each(1), lease, after(30)).await.unwrap();
    let id = MessageId::new(id(1));
    for settlement in [
        sent("a", None),
        Settlement::Expired { at: NOW },
        Settlement::InDoubt { provider: "a", until: NOW, reason: String::new() },
        Settlement::Retry { at: NOW, reason: String::new() },
        Settlement::Dead { reason: String::new() },
    ] {
        storage.settle(id, 1, settlement).await.unwrap();
        assert_eq!(storage.next_due(Room::for_each(1)).await.unwrap(), Some(after(60)));
    }
    storage.settle(id, 2, sent("a", None)).await.unwrap();
    assert_eq!(storage.next_due(Room::for_each(1)).await.unwrap(), None);
}

pub async fn a_settled_message_is_gone_retried_or_dead<S: Storage + Outbox>(storage: Arc<S>) {
    let messages = (1..4).map(|number| message(number, NOW)).collect();
    storage.commit(Changes { messages, ..Changes::default() }).await.unwrap();
    assert_eq!(storage.claim(Room::for_each(9), Duration::from_secs(30), NOW).await.unwrap().len(), 3);
    let settle =
        async |number, settlement| storage.settle(MessageId::new(id(number)), 1, settlement).await.unwrap();
    settle(1, sent("a", None)).await;
    settle(2, Settlement::Retry { at: after(90), reason: "busy".to_owned() }).await;
    settle(3, Settlement::Dead { reason: "no such number".to_owned() }).await;
    let again = storage.claim(Room::for_each(9), Duration::from_secs(30), after(90)).await.unwrap();
    assert_eq!(again.len(), 1);
    assert_eq!((again[0].message.id, again[0].tries), (MessageId::new(id(2)), 2));
    let dead = storage.dead_letters(9).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].message.id, dead[0].reason.as_str()), (MessageId::new(id(3)), "no such number"));
    assert!(storage.dead_letters(0).await.unwrap().is_empty());
}

pub async fn the_backlog_of_a_channel_is_its_own<S: Storage + Outbox>(storage: Arc<S>) {
    let backlog = async || {
        let of = async |channel| storage.backlog(channel).await.unwrap();
        (of(Channel::Sms).await, of(Channel::Mail).await)
    };
    assert_eq!(backlog().await, (Backlog::default(), Backlog::default()));
    let mails = (5..7).map(|number| link_mail(number, "anna@example.com"));
    let messages = (1..5).map(|number| message(number, after(number.into()))).chain(mails).collect();
    storage.commit(Changes { messages, ..Changes::default() }).await.unwrap();
    let mail = Backlog { waiting: 2, next_due: Some(NOW), dead: 0 };
    assert_eq!(backlog().await, (Backlog { waiting: 4, next_due: Some(after(1)), dead: 0 }, mail));
    let room = Room { sms: 3, mail: 0 };
    assert_eq!(storage.claim(room, Duration::from_secs(30), after(9)).await.unwrap().len(), 3);
    assert_eq!(backlog().await, (Backlog { waiting: 4, next_due: Some(after(4)), dead: 0 }, mail));
    let settle =
        async |number, settlement| storage.settle(MessageId::new(id(number)), 1, settlement).await.unwrap();
    settle(1, sent("a", None)).await;
    settle(2, Settlement::Retry { at: after(2), reason: String::new() }).await;
    settle(3, Settlement::Dead { reason: String::new() }).await;
    assert_eq!(backlog().await, (Backlog { waiting: 2, next_due: Some(after(2)), dead: 1 }, mail));
}

pub async fn a_sent_message_is_followed_by_its_id_and_reference<S: Storage + Outbox>(storage: Arc<S>) {
    use DeliveryState::{Delivered, Expired, Failed, Sent};
    let reference = || Reported::Reference("x1".to_owned());
    let first = leased(&*storage, 1).await;
    assert_eq!(delivery(&*storage, 1).await, Some(DeliveryState::Queued));
    // Not settled yet: it is to be said again.
    assert!(!storage.record_delivery(&report(reference(), Delivered)).await.unwrap());
    storage.settle(first, 1, sent("a", Some("x1"))).await.unwrap();
    assert_eq!(delivery(&*storage, 1).await, Some(Sent));
    let elsewhere = Report { provider: "b", ..report(reference(), Failed) };
    assert!(!storage.record_delivery(&elsewhere).await.unwrap(), "another provider's reference");
    for (said, stands) in [(Failed, Failed), (Sent, Failed), (Delivered, Delivered), (Expired, Delivered)] {
        assert!(storage.record_delivery(&report(reference(), said)).await.unwrap());
        assert_eq!(delivery(&*storage, 1).await, Some(stands), "{said:?}");
    }
    let second = leased(&*storage, 2).await;
    storage.settle(second, 1, sent("b", None)).await.unwrap();
    for said in [Expired, Failed] {
        assert!(storage.record_delivery(&report(Reported::Message(second), said)).await.unwrap());
        assert_eq!(delivery(&*storage, 2).await, Some(Sent), "another provider's copy");
    }
    let own = Report { provider: "b", ..report(Reported::Message(second), Expired) };
    assert!(storage.record_delivery(&own).await.unwrap());
    assert_eq!(delivery(&*storage, 2).await, Some(Expired));
    assert!(storage.record_delivery(&report(Reported::Message(second), Delivered)).await.unwrap());
    assert_eq!(delivery(&*storage, 2).await, Some(Delivered), "whoever has delivered it");
    let unknown = Reported::Message(MessageId::new(id(77)));
    assert!(storage.record_delivery(&report(unknown, Delivered)).await.unwrap());
}

/// A provider whose count begins again.
pub async fn a_reference_that_comes_again_is_the_newest_messages<S: Storage + Outbox>(storage: Arc<S>) {
    for number in [1, 2] {
        let message = message(number, after(number.into()));
        storage.commit(Changes { messages: vec![message], ..Changes::default() }).await.unwrap();
        storage.claim(Room::for_each(9), Duration::from_secs(30), after(9)).await.unwrap();
        storage.settle(MessageId::new(id(number)), 1, sent("a", Some("x1"))).await.unwrap();
    }
    let failed = report(Reported::Reference("x1".to_owned()), DeliveryState::Failed);
    assert!(storage.record_delivery(&failed).await.unwrap());
    assert_eq!(delivery(&*storage, 1).await, Some(DeliveryState::Sent));
    assert_eq!(delivery(&*storage, 2).await, Some(DeliveryState::Failed));
}

pub async fn a_report_of_a_queued_message_settles_it<S: Storage + Outbox>(storage: Arc<S>) {
    let message = leased(&*storage, 1).await;
    let failed = report(Reported::Message(message), DeliveryState::Failed);
    assert!(!storage.record_delivery(&failed).await.unwrap(), "its try is not settled yet");
    let delivered = report(Reported::Message(message), DeliveryState::Delivered);
    assert!(storage.record_delivery(&delivered).await.unwrap());
    assert_eq!(delivery(&*storage, 1).await, Some(DeliveryState::Delivered));
    // The answer of the provider was slower than its report.
    storage.settle(message, 1, sent("a", Some("x1"))).await.unwrap();
    assert_eq!(delivery(&*storage, 1).await, Some(DeliveryState::Delivered));
    assert!(storage.claim(Room::for_each(9), Duration::from_secs(1), after(3600)).await.unwrap().is_empty());
    // A dead letter can arrive after all, by the provider that it was in doubt with; its failure is no news.
    let dead = leased(&*storage, 2).await;
    storage.settle(dead, 1, Settlement::Dead { reason: "refused".to_owned() }).await.unwrap();
    for state in [DeliveryState::Failed, DeliveryState::Expired] {
        assert!(storage.record_delivery(&report(Reported::Message(dead), state)).await.unwrap());
        assert_eq!(storage.dead_letters(9).await.unwrap().len(), 1);
    }
    assert!(
        storage.record_delivery(&report(Reported::Message(dead), DeliveryState::Delivered)).await.unwrap()
    );
    assert_eq!(delivery(&*storage, 2).await, Some(DeliveryState::Delivered));
    assert!(storage.dead_letters(9).await.unwrap().is_empty());
}

pub async fn a_report_is_not_lost_to_a_settlement_at_the_same_time<S: Storage + Outbox + 'static>(
    storage: Arc<S>,
) {
    for number in 1..33 {
        let message = leased(&*storage, number).await;
        let settling = {
            let storage = Arc::clone(&storage);
            tokio::spawn(async move { storage.settle(message, 1, sent("a", None)).await.unwrap() })
        };
        let delivered = report(Reported::Message(message), DeliveryState::Delivered);
        assert!(storage.record_delivery(&delivered).await.unwrap());
        settling.await.unwrap();
        assert_eq!(delivery(&*storage, number).await, Some(DeliveryState::Delivered));
    }
}

pub async fn a_failure_in_doubt_is_tried_again_at_once<S: Storage + Outbox>(storage: Arc<S>) {
    let message = leased(&*storage, 1).await;
    let in_doubt = |until| Settlement::InDoubt { provider: "a", until, reason: "no answer".to_owned() };
    storage.settle(message, 1, in_doubt(after(60))).await.unwrap();
    let failed = report(Reported::Message(message), DeliveryState::Failed);
    let elsewhere = Report { provider: "b", ..failed.clone() };
    assert!(!storage.record_delivery(&elsewhere).await.unwrap(), "another provider's failure");
    assert!(storage.claim(Room::for_each(9), Duration::from_secs(30), after(59)).await.unwrap().is_empty());
    assert!(storage.record_delivery(&failed).await.unwrap());
    assert!(storage.record_delivery(&failed).await.unwrap(), "said again");
    let claimed = storage.claim(Room::for_each(9), Duration::from_secs(30), after(9)).await.unwrap();
    assert_eq!((claimed.len(), claimed[0].doubted.as_deref()), (1, Some("a")));
    assert!(!storage.record_delivery(&failed).await.unwrap(), "it is in doubt no more");
    storage.settle(message, 2, in_doubt(after(120))).await.unwrap();
    let again = storage.claim(Room::for_each(9), Duration::from_secs(30), after(120)).await.unwrap();
    assert_eq!(again.len(), 1, "no report came, so it is tried again");
    let late = storage.claim(Room::for_each(9), Duration::from_secs(30), after(150)).await.unwrap();
    assert_eq!((late[0].tries, late[0].doubted.as_deref()), (4, None), "the lease has ended the doubt");
}

pub async fn the_newest_message_of_an_attempt_tells_its_delivery<S: Storage + Outbox>(storage: Arc<S>) {
    assert_eq!(delivery(&*storage, 1).await, None);
    let first = leased(&*storage, 1).await;
    storage.settle(first, 1, sent("a", None)).await.unwrap();
    let again = Message { id: MessageId::new(id(50)), ..message(1, NOW) };
    let again = Message { queued_at: after(60), ..again };
    storage.commit(Changes { messages: vec![again.clone()], ..Changes::default() }).await.unwrap();
    assert_eq!(delivery(&*storage, 1).await, Some(DeliveryState::Queued));
    storage.claim(Room::for_each(9), Duration::from_secs(30), after(60)).await.unwrap();
    storage.settle(again.id, 1, Settlement::Dead { reason: "refused".to_owned() }).await.unwrap();
    assert_eq!(delivery(&*storage, 1).await, Some(DeliveryState::Failed));
    assert!(
        storage.record_delivery(&report(Reported::Message(first), DeliveryState::Delivered)).await.unwrap()
    );
    assert_eq!(delivery(&*storage, 1).await, Some(DeliveryState::Failed), "that was an older message");
}

pub async fn a_commit_wakes_who_waits_for_messages<S: Storage + Outbox + 'static>(storage: Arc<S>) {
    let waiting = {
        let storage = Arc::clone(&storage);
        tokio::spawn(async move { storage.queued().await })
    };
    storage.commit(Changes { messages: vec![message(1, NOW)], ..Changes::default() }).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("nobody was woken").unwrap();
}

pub async fn every_message_is_claimed_as_it_was_queued<S: Storage + Outbox>(storage: Arc<S>) {
    let attempt = AttemptId::new(id(70));
    let contents = [
        Content::SignUpCode { attempt, generation: 3 },
        Content::EmailConfirmation { verification: EmailVerificationId::new(id(71)) },
        Content::AlreadyRegistered,
        Content::ResetCode { attempt, generation: u32::MAX },
        Content::PasswordChanged,
        Content::SessionStolen,
    ];
    let address = Recipient::Email(EmailAddress::parse("Zoë+x@Müller.example").unwrap());
    let messages: Vec<_> = (0..)
        .zip(contents.into_iter().flat_map(|content| [(content, None), (content, Some(&address))]))
        .map(|(number, (content, by_mail))| {
            let by_phone = message(number, after(number.into()));
            let recipient = by_mail.cloned().unwrap_or_else(|| by_phone.recipient.clone());
            Message { content, recipient, ..by_phone }
        })
        .collect();
    storage.commit(Changes { messages: messages.clone(), ..Changes::default() }).await.unwrap();
    let claimed = storage.claim(Room::for_each(99), Duration::from_secs(30), after(99)).await.unwrap();
    assert_eq!(claimed.into_iter().map(|claimed| claimed.message).collect::<Vec<_>>(), messages);
}

pub async fn a_reset_code_is_followed_by_its_attempt<S: Storage + Outbox>(storage: Arc<S>) {
    let content = Content::ResetCode { attempt: AttemptId::new(id(70)), generation: 0 };
    let code = Message { content, ..message(1, NOW) };
    storage.commit(Changes { messages: vec![code.clone()], ..Changes::default() }).await.unwrap();
    assert_eq!(delivery(&*storage, 70).await, Some(DeliveryState::Queued));
    storage.claim(Room::for_each(9), Duration::from_secs(30), NOW).await.unwrap();
    storage.settle(code.id, 1, sent("a", None)).await.unwrap();
    assert_eq!(delivery(&*storage, 70).await, Some(DeliveryState::Sent));
}

pub async fn messages_wait_for_an_account_by_phone_and_by_mail<S: Storage + Outbox>(storage: Arc<S>) {
    let owner = confirmed(with_email(account(1), "Anna@Example.com", 1), 1);
    let to = |number, seconds, recipient| Message { recipient, ..message(number, after(seconds)) };
    let mail = |address| Recipient::Email(EmailAddress::parse(address).unwrap());
    let sms = |number| Recipient::Phone(phone(number));
    let messages = vec![
        to(1, 10, sms(1)),
        to(2, 30, mail("Anna@Example.com")),
        to(3, 20, sms(1)),
        to(4, 20, sms(2)),
        to(5, 20, mail("bea@example.com")),
        to(6, 5, sms(1)),
        to(7, 6, sms(1)),
    ];
    storage.commit(Changes { messages: messages.clone(), ..Changes::default() }).await.unwrap();
    // What has left waits no more, nor what was given up; what is being sent does.
    assert_eq!(storage.claim(Room::for_each(3), Duration::from_secs(30), after(10)).await.unwrap().len(), 3);
    storage.settle(MessageId::new(id(6)), 1, sent("a", None)).await.unwrap();
    storage
        .settle(MessageId::new(id(7)), 1, Settlement::Dead { reason: "refused".to_owned() })
        .await
        .unwrap();
    let waiting = storage.waiting_messages(&owner).await.unwrap();
    assert_eq!(waiting, [&messages[1], &messages[2], &messages[0]].map(Message::clone));
    let without_address = storage.waiting_messages(&account(1)).await.unwrap();
    assert_eq!(without_address, [&messages[2], &messages[0]].map(Message::clone));
    assert!(storage.waiting_messages(&account(3)).await.unwrap().is_empty());
}

/// The messages that wait for the account, by number.
async fn waiting(storage: &impl Storage, account: &Account) -> Vec<MessageId> {
    let waiting = storage.waiting_messages(account).await.unwrap();
    let mut waiting: Vec<_> = waiting.into_iter().map(|message| message.id).collect();
    waiting.sort();
    waiting
}

pub async fn mail_to_an_unconfirmed_address_waits_for_who_asked_for_it<S: Storage>(storage: Arc<S>) {
    let (one, other) =
        (with_email(account(1), "anna@example.com", 11), with_email(account(2), "anna@example.com", 12));
    let nobodys = Message { content: Content::PasswordChanged, ..link_mail(14, "anna@example.com") };
    let replaced = link_mail(13, "anna@example.com");
    let messages = vec![
        link_mail(11, "anna@example.com"),
        link_mail(12, "anna@example.com"),
        replaced,
        nobodys,
        Message { recipient: Recipient::Phone(phone(1)), ..message(15, NOW) },
    ];
    storage.commit(Changes { messages, ..Changes::default() }).await.unwrap();
    assert_eq!(waiting(&*storage, &one).await, [11, 15].map(|number| MessageId::new(id(number))));
    assert_eq!(waiting(&*storage, &other).await, [MessageId::new(id(12))]);
    assert_eq!(waiting(&*storage, &with_email(account(3), "anna@example.com", 16)).await, []);
}

pub async fn mail_to_a_confirmed_address_waits_for_its_owner<S: Storage>(storage: Arc<S>) {
    let owner = confirmed(with_email(account(1), "anna@example.com", 11), 11);
    let other = with_email(account(2), "anna@example.com", 12);
    let notice = Message { content: Content::PasswordChanged, ..link_mail(13, "anna@example.com") };
    let messages = vec![link_mail(11, "anna@example.com"), link_mail(12, "anna@example.com"), notice];
    storage.commit(Changes { messages, ..Changes::default() }).await.unwrap();
    assert_eq!(waiting(&*storage, &owner).await, [11, 12, 13].map(|number| MessageId::new(id(number))));
    assert_eq!(waiting(&*storage, &other).await, [MessageId::new(id(12))]);
}
