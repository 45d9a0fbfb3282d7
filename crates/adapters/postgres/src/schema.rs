//! The tables, as `migrations/postgres` makes them.

diesel::table! {
    registrations (phone) {
        phone -> Text,
        version -> BigInt,
        stage -> Text,
        sign_ups_full_at -> Nullable<Timestamptz>,
        guesses_full_at -> Nullable<Timestamptz>,
        opened_attempt -> Nullable<Uuid>,
        opened_generation -> Nullable<BigInt>,
        opened_fingerprint -> Nullable<Binary>,
        opened_address -> Nullable<Text>,
        opened_user -> Nullable<Uuid>,
        opened_session -> Nullable<Uuid>,
        opened_at -> Nullable<Timestamptz>,
        opened_wrong_repeats -> Nullable<BigInt>,
        owner_told_at -> Nullable<Timestamptz>,
        forget_at -> Timestamptz,
    }
}

diesel::table! {
    attempts (id) {
        id -> Uuid,
        phone -> Text,
        password -> Text,
        fingerprint -> Nullable<Binary>,
        address -> Text,
        created_at -> Timestamptz,
        generation -> BigInt,
        expires_at -> Timestamptz,
        guesses -> BigInt,
        messages -> BigInt,
        last_message_at -> Timestamptz,
    }
}

diesel::table! {
    accounts (user_id) {
        user_id -> Uuid,
        version -> BigInt,
        phone -> Text,
        email -> Nullable<Text>,
        email_canonical -> Nullable<Text>,
        email_confirmed -> Bool,
        email_link -> Nullable<Uuid>,
        email_link_expires_at -> Nullable<Timestamptz>,
        email_last_mail_at -> Nullable<Timestamptz>,
        mails_full_at -> Nullable<Timestamptz>,
        first_name -> Nullable<Text>,
        last_name -> Nullable<Text>,
        date_of_birth -> Nullable<Date>,
        primary_currency -> Nullable<Text>,
        residence_country -> Nullable<Text>,
        citizenship_country -> Nullable<Text>,
        residence_state -> Nullable<Text>,
        residence_city -> Nullable<Text>,
        residence_street -> Nullable<Text>,
        residence_zip_code -> Nullable<Text>,
        kyc_level -> Text,
        created_at -> Timestamptz,
        opened_fingerprint -> Nullable<Binary>,
        opened_address -> Nullable<Text>,
        blocked -> Bool,
        is_test -> Bool,
    }
}

diesel::table! {
    passwords (user_id, set_at) {
        user_id -> Uuid,
        set_at -> Timestamptz,
        hash -> Text,
    }
}

diesel::table! {
    used_numbers (digest) {
        digest -> Binary,
    }
}

diesel::table! {
    sessions (id) {
        id -> Uuid,
        user_id -> Uuid,
        fingerprint -> Nullable<Binary>,
        address -> Text,
        created_at -> Timestamptz,
        version -> BigInt,
        last_used_at -> Nullable<Timestamptz>,
        generation -> BigInt,
        used -> Bool,
        spent -> Nullable<Binary>,
    }
}

diesel::table! {
    refresh_tokens (hash) {
        hash -> Binary,
        session_id -> Uuid,
        issued_at -> Timestamptz,
        expires_at -> Timestamptz,
        generation -> BigInt,
    }
}

diesel::table! {
    limits (key) {
        key -> Text,
        full_at -> Timestamptz,
    }
}

diesel::table! {
    reservations (message, purse, span) {
        message -> Uuid,
        purse -> Text,
        span -> Text,
        start -> Timestamptz,
        amount -> BigInt,
        tries -> BigInt,
    }
}

diesel::table! {
    spending (purse, span, start) {
        purse -> Text,
        span -> Text,
        start -> Timestamptz,
        amount -> BigInt,
    }
}

diesel::table! {
    messages (id) {
        id -> Uuid,
        kind -> Text,
        phone -> Nullable<Text>,
        email -> Nullable<Text>,
        attempt -> Nullable<Uuid>,
        generation -> Nullable<BigInt>,
        link -> Nullable<Uuid>,
        locale -> Text,
        queued_at -> Timestamptz,
        expires_at -> Timestamptz,
        due_at -> Timestamptz,
        tries -> BigInt,
        dead -> Bool,
        reason -> Nullable<Text>,
        in_doubt_with -> Nullable<Text>,
        masked -> Text,
        merchant -> Nullable<Text>,
    }
}

diesel::table! {
    deliveries (id) {
        id -> Uuid,
        kind -> Text,
        attempt -> Nullable<Uuid>,
        recipient -> Text,
        provider -> Nullable<Text>,
        reference -> Nullable<Text>,
        state -> Text,
        reason -> Nullable<Text>,
        tries -> BigInt,
        queued_at -> Timestamptz,
        changed_at -> Timestamptz,
    }
}

diesel::table! {
    sign_in_guards (phone) {
        phone -> Text,
        version -> BigInt,
        failures -> BigInt,
        failed_at -> Nullable<Timestamptz>,
        locked_until -> Nullable<Timestamptz>,
        origins -> Text,
        forget_at -> Timestamptz,
    }
}

diesel::table! {
    password_resets (phone) {
        phone -> Text,
        version -> BigInt,
        requests_full_at -> Nullable<Timestamptz>,
        guesses_full_at -> Nullable<Timestamptz>,
        attempts -> Text,
        forget_at -> Timestamptz,
        finished -> Nullable<Text>,
    }
}

diesel::table! {
    accepted_signatures (digest) {
        digest -> Binary,
        forget_at -> Timestamptz,
    }
}

diesel::table! {
    key_mark (one) {
        one -> SmallInt,
        mark -> Binary,
    }
}

diesel::table! {
    facts (id) {
        id -> Uuid,
        at -> Timestamptz,
        event -> Text,
        number -> Binary,
        phone -> Text,
        user_id -> Nullable<Uuid>,
        session_id -> Nullable<Uuid>,
        fingerprint -> Nullable<Binary>,
        address -> Nullable<Text>,
    }
}

diesel::table! {
    kept_answers (request) {
        request -> Binary,
        payload -> Binary,
        execution -> Uuid,
        leased_until -> Timestamptz,
        answer -> Nullable<Binary>,
        forget_at -> Timestamptz,
    }
}

diesel::table! {
    sent_codes (at, message) {
        message -> Uuid,
        attempt -> Uuid,
        at -> Timestamptz,
        country -> Nullable<Text>,
        number_range -> Text,
        block -> Text,
        price -> Nullable<BigInt>,
        confirmed_at -> Nullable<Timestamptz>,
        part -> Text,
        took_of_range -> Bool,
        tries -> BigInt,
    }
}

diesel::table! {
    held_codes (at, id) {
        id -> Uuid,
        at -> Timestamptz,
        country -> Nullable<Text>,
        number_range -> Text,
        block -> Text,
        budget -> Text,
        reason -> Text,
        enforced -> Bool,
        price -> BigInt,
        count -> BigInt,
    }
}

diesel::table! {
    /// The one row of the number that is asked for, made by [`crate::statement::Asked`].
    asked (phone) {
        phone -> Text,
    }
}

diesel::joinable!(attempts -> registrations (phone));
diesel::allow_tables_to_appear_in_same_query!(sent_codes, deliveries);
diesel::allow_tables_to_appear_in_same_query!(registrations, attempts);
diesel::allow_tables_to_appear_in_same_query!(accounts, sessions, refresh_tokens);
diesel::allow_tables_to_appear_in_same_query!(
    asked,
    accounts,
    sign_in_guards,
    password_resets,
    passwords,
    limits
);
