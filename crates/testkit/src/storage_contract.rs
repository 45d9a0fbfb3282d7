//! The clauses of the storage port, as plain functions over any implementation. The macro of the same name stamps one test for
//! each.

#![expect(missing_docs, reason = "the name of a clause says what it holds")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a clause that does not hold panics: these are tests"
)]

pub mod answers;
pub mod commits;
pub mod erasure;
pub mod facts;
pub mod keys;
pub mod outbox;
pub mod proofs;
pub mod pumping;
pub mod sessions;
pub mod signatures;
pub mod spending;
pub mod sweep;

use std::sync::Arc;
use std::time::Duration;

use time::UtcDateTime;
use time::macros::utc_datetime;
use uuid::Uuid;
use vestibule_domain::quota::Quota;
use vestibule_domain::registration::{Confirm, Confirmation, NumberUse, Others, Registration, Rules, SignUp};
use vestibule_domain::{
    Account, AccountKind, AddEmail, AttemptId, Claim, ClientAddress, ConfirmEmail, Content, DeliveryState,
    EmailAddress, EmailRules, EmailVerificationId, Fingerprint, Generation, Locale, MerchantId, Message,
    MessageId, OneTimeCode, OneTimeCodes, Origin, PasswordHash, PhoneNumber, Recipient, RefreshToken,
    Session, SessionId, UserId, Voice,
};
use vestibule_port_storage::{
    Changes, CommitError, Level, Loaded, NewPassword, NewRefreshToken, NumberDigest, Outbox, Report,
    Reported, Room, Save, Settlement, Storage,
};

/// When the part of a budget is full again that has most left, of those that were ever charged.
fn full_at(level: &Level) -> Option<UtcDateTime> {
    level.parts.iter().flatten().min().copied()
}

/// Stamps the contract's tests for a storage that `$open` makes afresh: an async function that returns an
/// `Arc` of it and whatever must live as long.
#[macro_export]
macro_rules! storage_contract {
    ($open:path) => {
        $crate::storage_contract!(@stamp $open:
            commits {
                a_registration_is_read_as_it_was_saved,
                an_account_is_read_as_it_was_saved,
                an_account_knows_where_it_was_opened_from,
                a_test_account_is_one_and_stays_one,
                a_commit_over_another_version_changes_nothing,
                a_second_insert_is_a_conflict,
                of_64_commits_over_one_version_one_succeeds,
                of_64_first_sign_ups_one_succeeds,
                a_used_number_is_used_once,
                of_64_confirmations_one_opens_the_account,
                a_phone_has_one_account,
                a_confirmed_address_has_one_account,
                of_64_confirmations_of_one_address_one_succeeds,
                an_unconfirmed_address_may_be_anyones,
                a_limit_is_charged_to_its_end_and_no_further,
                everyones_budget_is_spent_to_the_last_unit,
                a_partners_budget_is_spent_to_the_last_unit,
                a_kept_unit_must_be_there_and_stays,
                several_limits_are_charged_together_or_not_at_all,
                a_refused_commit_leaves_nothing,
                a_dropped_commit_is_whole_or_not_at_all,
            }
            sessions {
                an_account_is_seen_through_its_own_session_only,
                those_who_ask_at_once_are_each_answered_what_they_asked,
                a_session_is_read_as_it_was_saved,
                a_session_is_opened_once_and_for_an_account,
                of_64_refreshes_over_one_version_one_succeeds,
                a_refresh_token_is_found_with_its_session_and_account,
                one_session_ends_and_no_other,
                all_sessions_end_but_one,
                a_session_that_is_opened_as_others_end_lives,
                an_ended_session_is_not_carried_on,
                a_refused_commit_ends_no_session,
                sessions_are_listed_the_newest_first,
            }
            proofs {
                a_guard_is_read_as_it_was_saved,
                a_guard_over_another_version_is_a_conflict,
                a_reset_is_read_as_it_was_saved,
                a_reset_over_another_version_is_a_conflict,
                credentials_are_all_that_is_known_of_a_phone,
                every_limit_has_its_own_budget,
                a_password_is_hashed_anew_in_its_place,
                forgotten_passwords_are_gone,
            }
            facts {
                every_fact_is_read_as_it_was_noted,
                facts_are_found_by_user_and_by_number,
                facts_of_one_moment_are_in_the_order_of_their_ids,
                a_refused_commit_notes_nothing,
            }
            erasure {
                an_erased_account_is_gone_with_everything_personal,
                facts_outlive_the_account_without_their_origins,
                dead_letters_of_an_erased_account_are_gone,
                an_erasure_over_another_version_changes_nothing,
                an_erasure_demands_the_guard_and_the_session_that_it_names,
                an_erased_account_is_not_there_to_be_changed,
                a_number_stays_used_and_an_address_is_free_again,
                a_freed_number_is_used_no_more,
                an_account_without_anything_is_erased,
                nothing_of_an_erased_account_comes_back,
                mail_of_another_account_outlives_an_erasure,
                a_confirmed_address_takes_its_mail_along,
            }
            outbox {
                a_message_is_leased_to_one_caller,
                an_unsettled_message_comes_back_after_its_lease,
                a_claim_for_one_channel_leaves_the_others_messages_alone,
                a_late_settlement_does_nothing,
                a_settled_message_is_gone_retried_or_dead,
                the_backlog_of_a_channel_is_its_own,
                a_sent_message_is_followed_by_its_id_and_reference,
                a_reference_that_comes_again_is_the_newest_messages,
                a_report_of_a_queued_message_settles_it,
                a_report_is_not_lost_to_a_settlement_at_the_same_time,
                a_failure_in_doubt_is_tried_again_at_once,
                the_newest_message_of_an_attempt_tells_its_delivery,
                a_commit_wakes_who_waits_for_messages,
                every_message_is_claimed_as_it_was_queued,
                a_reset_code_is_followed_by_its_attempt,
                messages_wait_for_an_account_by_phone_and_by_mail,
                mail_to_an_unconfirmed_address_waits_for_who_asked_for_it,
                mail_to_a_confirmed_address_waits_for_its_owner,
            }
            keys {
                the_first_mark_is_kept,
                of_32_marks_one_is_kept_and_all_are_told_it,
                evidence_names_an_account_while_there_is_one,
            }
            signatures {
                a_signature_is_accepted_once,
                of_32_callers_with_one_signature_one_is_told,
                a_signature_is_forgotten_when_its_time_is_over,
                signatures_are_forgotten_in_batches,
            }
            spending {
                of_64_messages_as_many_are_queued_as_the_ceiling_allows,
                a_purse_has_its_own_sum_in_every_window,
                the_first_window_without_room_tells_how_long,
                what_is_spent_for_a_message_that_is_never_to_be_sent_stays_so,
                a_sum_that_is_not_taken_must_have_room_and_is_not_spent,
                who_may_spend_more_still_can,
                a_refused_sum_leaves_nothing,
                what_was_spent_is_told_of_the_purses_that_are_asked_for,
                a_message_that_never_left_gives_its_money_back_once,
                a_message_that_may_have_left_gives_nothing_back,
                of_64_charges_of_a_provider_as_many_pass_as_its_ceiling_allows,
                what_was_paid_counts_whatever_the_ceiling,
                a_message_is_settled_for_what_it_cost,
                of_32_messages_that_are_settled_at_once_each_counts_for_what_it_cost,
                a_message_that_cost_more_than_there_was_ends_all_sending,
                a_message_that_may_have_been_billed_before_is_settled_for_no_less,
                a_sent_code_shows_what_it_cost,
                a_sweep_forgets_past_windows,
            }
            pumping {
                a_tally_is_never_refused_and_stays_within_the_budget,
                a_tally_brings_a_budget_from_before_within_the_quota_of_today,
                charges_and_tallies_see_each_other,
                of_64_tallies_at_once_none_is_lost,
                returned_units_open_an_empty_budget,
                a_sent_code_is_read_as_it_was_recorded,
                a_refused_commit_leaves_no_code_and_no_tally,
                all_codes_of_an_attempt_come_back_and_of_no_other,
                the_provider_of_a_code_is_told_once_it_has_left,
                a_code_that_was_never_sent_is_told_once,
                a_code_that_may_have_been_sent_is_not_told,
                a_code_that_was_never_to_be_sent_is_not_told,
                sent_codes_are_read_in_pages,
                held_codes_are_read_in_pages,
                held_codes_are_read_as_they_were_recorded,
                of_held_codes_very_many_are_recorded_at_once,
                budgets_in_use_are_those_of_the_step_that_are_not_full,
                a_sweep_forgets_codes_with_the_messages_of_their_time,
                a_sweep_forgets_codes_in_batches,
            }
            sweep {
                a_sweep_forgets_what_no_longer_matters,
                a_sweep_ends_sessions_without_tokens_only,
                a_sweep_goes_in_batches,
                a_sweep_forgets_guards_resets_and_facts,
                a_sweep_of_every_kind_goes_in_batches,
            }
            answers {
                of_32_executions_at_once_one_begins,
                an_answer_is_repeated_as_it_was_kept,
                a_request_with_another_payload_is_refused,
                what_begins_is_charged_and_what_is_repeated_is_not,
                a_refused_beginning_charges_nobody,
                of_32_beginnings_at_once_as_many_begin_as_there_are_units,
                an_execution_that_died_is_begun_again_once,
                only_the_last_execution_answers_or_forgets,
                a_forgotten_request_is_new,
                an_answer_past_its_life_is_forgotten,
            }
        );
    };
    (@stamp $open:path: $($concern:ident { $($clause:ident),* $(,)? })*) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $clause() {
                let (storage, _keep) = $open().await;
                $crate::storage_contract::$concern::$clause(storage).await;
            }
        )*)*
    };
}

const NOW: UtcDateTime = utc_datetime!(2026-11-24 12:00);
const RULES: Rules = Rules {
    code_ttl: Duration::from_mins(10),
    code_guesses: 5,
    resend_cooldown: Duration::from_mins(1),
    max_messages: 5,
    sign_ups: Quota { burst: 10, period: Duration::from_hours(24) },
    guesses: Quota { burst: 30, period: Duration::from_hours(24) },
    places: 20,
};
const EMAIL_RULES: EmailRules = EmailRules {
    link_ttl: Duration::from_hours(24),
    resend_cooldown: Duration::from_mins(1),
    mails: Quota { burst: 10, period: Duration::from_hours(24) },
};

/// Every code is the same, which is all that these tests need.
struct OneCode;

impl OneTimeCodes for OneCode {
    fn code(&self, _: AttemptId, generation: Generation) -> OneTimeCode {
        OneTimeCode::from_number(generation.into(), 6)
    }

    fn matches(&self, attempt: AttemptId, generation: Generation, candidate: &OneTimeCode) -> bool {
        self.code(attempt, generation) == *candidate
    }
}

fn id(number: u32) -> Uuid {
    Uuid::from_u128(u128::from(number) + 1)
}

fn phone(number: u32) -> PhoneNumber {
    PhoneNumber::restore(&format!("+4478712{number:05}")).unwrap()
}

fn origin() -> Origin {
    Origin { fingerprint: Fingerprint::of("device"), address: ClientAddress::of([192, 0, 2, 1].into()) }
}

fn digest(number: u8) -> NumberDigest {
    NumberDigest([number; 32])
}

fn after(seconds: u64) -> UtcDateTime {
    NOW + Duration::from_secs(seconds)
}

fn sign_up(current: Option<Registration>, number: u32, attempt: u32, at: UtcDateTime) -> Registration {
    let sign_up = SignUp {
        attempt: AttemptId::new(id(attempt)),
        phone: phone(number),
        password: PasswordHash::new("hash".to_owned()),
        origin: origin(),
    };
    Registration::sign_up(current, NumberUse::Unused, sign_up, &OneCode, &RULES, at).unwrap().registration
}

/// In another language than ours, in another name than ours.
pub(crate) fn voice() -> Voice {
    Voice { locale: Locale::new("de"), merchant: MerchantId::parse("Acme_Pay-7") }
}

fn message(number: u32, queued_at: UtcDateTime) -> Message {
    Message {
        id: MessageId::new(id(number)),
        recipient: Recipient::Phone(phone(number)),
        content: Content::SignUpCode { attempt: AttemptId::new(id(number)), generation: 3 },
        voice: voice(),
        queued_at,
        expires_at: queued_at + Duration::from_mins(10),
    }
}

/// The mail with the link `link`, whose id is the same number.
fn link_mail(link: u32, address: &str) -> Message {
    Message {
        recipient: Recipient::Email(EmailAddress::parse(address).unwrap()),
        content: Content::EmailConfirmation { verification: EmailVerificationId::new(id(link)) },
        ..message(link, NOW)
    }
}

fn saving_registration(save: Save<Registration>) -> Changes {
    Changes { registration: Some(save), ..Changes::default() }
}

fn saving_account(save: Save<Account>) -> Changes {
    Changes { account: Some(save), ..Changes::default() }
}

fn account(number: u32) -> Account {
    Account::open(UserId::new(id(number)), phone(number), origin(), NOW)
}

fn with_email(account: Account, address: &str, link: u32) -> Account {
    let add = AddEmail {
        address: EmailAddress::parse(address).unwrap(),
        verification: EmailVerificationId::new(id(link)),
    };
    account.add_email(add, &EMAIL_RULES, NOW).unwrap().unwrap().account
}

fn confirmed(account: Account, link: u32) -> Account {
    match account.confirm_email(EmailVerificationId::new(id(link)), after(1)) {
        ConfirmEmail::Confirmed(account) => *account,
        other => panic!("{other:?}"),
    }
}

fn user(number: u32) -> UserId {
    UserId::new(id(number))
}

fn session_id(number: u32) -> SessionId {
    SessionId::new(id(number))
}

fn session(number: u32, of: u32) -> Session {
    Session::open(session_id(number), user(of), origin(), NOW)
}

/// A refresh token of generation 0.
fn token(number: u8, session: u32, expires_at: UtcDateTime) -> NewRefreshToken {
    NewRefreshToken {
        hash: RefreshToken::from_random([number; 32]).hash(),
        session: session_id(session),
        generation: 0,
        issued_at: NOW,
        expires_at,
    }
}

fn password(of: u32, hash: &str, set_at: UtcDateTime) -> NewPassword {
    NewPassword { user: user(of), hash: PasswordHash::new(hash.to_owned()), set_at }
}

/// Everything that a right code changes.
fn opening(loaded: Loaded<Registration>, number: u32) -> Changes {
    let confirm = Confirm {
        code: Some(OneTimeCode::from_number(0, 6)),
        claim: Claim { attempt: None, origin: origin() },
        user: UserId::new(id(number)),
        session: SessionId::new(id(number)),
        others: Others::Told,
        kind: AccountKind::Customer,
    };
    match loaded.value.confirm(&confirm, &OneCode, &RULES, after(5)) {
        Confirmation::Opened { registration, account, password, session, .. } => Changes {
            registration: Some(Save::over(loaded.version, registration)),
            password: Some(NewPassword { user: account.user(), hash: password, set_at: NOW }),
            account: Some(Save::new(*account)),
            used_number: Some(digest(1)),
            refresh_token: Some(token(u8::try_from(number % 256).unwrap(), number, after(3600))),
            session: Some(Save::new(session)),
            ..Changes::default()
        },
        other => panic!("{other:?}"),
    }
}

async fn registered(storage: &impl Storage, number: u32) -> Loaded<Registration> {
    storage.commit(saving_registration(Save::new(sign_up(None, number, number, NOW)))).await.unwrap();
    storage.registration(&phone(number)).await.unwrap().unwrap()
}

/// Runs 64 commits at once; how many succeeded, and what the others were answered.
async fn race<S: Storage + 'static>(
    storage: &Arc<S>,
    changes: impl Fn(u32) -> Changes,
) -> (usize, Vec<CommitError>) {
    let commits: Vec<_> = (0..64)
        .map(|number| {
            let (storage, changes) = (Arc::clone(storage), changes(number));
            tokio::spawn(async move { storage.commit(changes).await })
        })
        .collect();
    let mut won = 0;
    let mut lost = Vec::new();
    for commit in commits {
        match commit.await.unwrap() {
            Ok(()) => won += 1,
            Err(error) => lost.push(error),
        }
    }
    (won, lost)
}

fn sent(provider: &'static str, reference: Option<&str>) -> Settlement {
    Settlement::Sent { provider, reference: reference.map(str::to_owned), cost: None, at: NOW }
}

/// Queues and leases message `number`, which carries a code of attempt `number`.
async fn leased<S: Storage + Outbox>(storage: &S, number: u32) -> MessageId {
    storage.commit(Changes { messages: vec![message(number, NOW)], ..Changes::default() }).await.unwrap();
    assert_eq!(storage.claim(Room::for_each(9), Duration::from_secs(30), NOW).await.unwrap().len(), 1);
    MessageId::new(id(number))
}

fn report(message: Reported, state: DeliveryState) -> Report {
    Report { provider: "a", message, state, reason: None, at: after(9) }
}

async fn delivery(storage: &impl Storage, attempt: u32) -> Option<DeliveryState> {
    storage.delivery(AttemptId::new(id(attempt))).await.unwrap()
}
