//! The tables, as `migrations/sqlite` makes them.

diesel::table! {
    registrations (phone) {
        phone -> Text,
        version -> BigInt,
        stage -> Text,
        sign_ups_full_at -> Nullable<BigInt>,
        guesses_full_at -> Nullable<BigInt>,
        opened_attempt -> Nullable<Binary>,
        opened_generation -> Nullable<BigInt>,
        opened_fingerprint -> Nullable<Binary>,
        opened_address -> Nullable<Text>,
        opened_user -> Nullable<Binary>,
        opened_session -> Nullable<Binary>,
        opened_at -> Nullable<BigInt>,
        opened_wrong_repeats -> Nullable<BigInt>,
        owner_told_at -> Nullable<BigInt>,
        forget_at -> BigInt,
    }
}

diesel::table! {
    attempts (id) {
        id -> Binary,
        phone -> Text,
        password -> Text,
        fingerprint -> Nullable<Binary>,
        address -> Text,
        created_at -> BigInt,
        generation -> BigInt,
        expires_at -> BigInt,
        guesses -> BigInt,
        messages -> BigInt,
        last_message_at -> BigInt,
    }
}

diesel::table! {
    accounts (user_id) {
        user_id -> Binary,
        version -> BigInt,
        phone -> Text,
        email -> Nullable<Text>,
        email_canonical -> Nullable<Text>,
        email_confirmed -> Bool,
        email_link -> Nullable<Binary>,
        email_link_expires_at -> Nullable<BigInt>,
        email_last_mail_at -> Nullable<BigInt>,
        mails_full_at -> Nullable<BigInt>,
        first_name -> Nullable<Text>,
        last_name -> Nullable<Text>,
        date_of_birth -> Nullable<Text>,
        primary_currency -> Nullable<Text>,
        residence_country -> Nullable<Text>,
        citizenship_country -> Nullable<Text>,
        residence_state -> Nullable<Text>,
        residence_city -> Nullable<Text>,
        residence_street -> Nullable<Text>,
        residence_zip_code -> Nullable<Text>,
        kyc_level -> Text,
        created_at -> BigInt,
        opened_fingerprint -> Nullable<Binary>,
        opened_address -> Nullable<Text>,
        blocked -> Bool,
        is_test -> Bool,
    }
}

diesel::table! {
    passwords (user_id, set_at) {
        user_id -> Binary,
        set_at -> BigInt,
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
        id -> Binary,
        user_id -> Binary,
        fingerprint -> Nullable<Binary>,
        address -> Text,
        created_at -> BigInt,
        version -> BigInt,
        last_used_at -> Nullable<BigInt>,
        generation -> BigInt,
        used -> Bool,
        spent -> Nullable<Binary>,
    }
}

diesel::table! {
    refresh_tokens (hash) {
        hash -> Binary,
        session_id -> Binary,
        issued_at -> BigInt,
        expires_at -> BigInt,
        generation -> BigInt,
    }
}

diesel::table! {
    limits (key) {
        key -> Text,
        full_at -> BigInt,
    }
}

diesel::table! {
    reservations (message, purse, span) {
        message -> Binary,
        purse -> Text,
        span -> Text,
        start -> BigInt,
        amount -> BigInt,
        tries -> BigInt,
    }
}

diesel::table! {
    spending (purse, span, start) {
        purse -> Text,
        span -> Text,
        start -> BigInt,
        amount -> BigInt,
    }
}

diesel::table! {
    messages (id) {
        id -> Binary,
        kind -> Text,
        phone -> Nullable<Text>,
        email -> Nullable<Text>,
        attempt -> Nullable<Binary>,
        generation -> Nullable<BigInt>,
        link -> Nullable<Binary>,
        locale -> Text,
        queued_at -> BigInt,
        expires_at -> BigInt,
        due_at -> BigInt,
        tries -> BigInt,
        dead -> Bool,
        reason -> Nullable<Text>,
        in_doubt_with -> Nullable<Text>,
        merchant -> Nullable<Text>,
    }
}

diesel::table! {
    deliveries (id) {
        id -> Binary,
        kind -> Text,
        attempt -> Nullable<Binary>,
        recipient -> Text,
        provider -> Nullable<Text>,
        reference -> Nullable<Text>,
        state -> Text,
        reason -> Nullable<Text>,
        tries -> BigInt,
        queued_at -> BigInt,
        changed_at -> BigInt,
    }
}

diesel::table! {
    sign_in_guards (phone) {
        phone -> Text,
        version -> BigInt,
        failures -> BigInt,
        failed_at -> Nullable<BigInt>,
        locked_until -> Nullable<BigInt>,
        origins -> Text,
        forget_at -> BigInt,
    }
}

diesel::table! {
    password_resets (phone) {
        phone -> Text,
        version -> BigInt,
        requests_full_at -> Nullable<BigInt>,
        guesses_full_at -> Nullable<BigInt>,
        attempts -> Text,
        forget_at -> BigInt,
        finished -> Nullable<Text>,
    }
}

diesel::table! {
    accepted_signatures (digest) {
        digest -> Binary,
        forget_at -> BigInt,
    }
}

diesel::table! {
    key_mark (one) {
        one -> Integer,
        mark -> Binary,
    }
}

diesel::table! {
    facts (id) {
        id -> Binary,
        at -> BigInt,
        event -> Text,
        number -> Binary,
        phone -> Text,
        user_id -> Nullable<Binary>,
        session_id -> Nullable<Binary>,
        fingerprint -> Nullable<Binary>,
        address -> Nullable<Text>,
    }
}

diesel::table! {
    kept_answers (request) {
        request -> Binary,
        payload -> Binary,
        execution -> Binary,
        leased_until -> BigInt,
        answer -> Nullable<Binary>,
        forget_at -> BigInt,
    }
}

diesel::table! {
    sent_codes (at, message) {
        message -> Binary,
        attempt -> Binary,
        at -> BigInt,
        country -> Nullable<Text>,
        number_range -> Text,
        block -> Text,
        price -> Nullable<BigInt>,
        confirmed_at -> Nullable<BigInt>,
        part -> Text,
        took_of_range -> Bool,
        tries -> BigInt,
    }
}

diesel::table! {
    held_codes (at, id) {
        id -> Binary,
        at -> BigInt,
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

diesel::allow_tables_to_appear_in_same_query!(sent_codes, deliveries);
diesel::allow_tables_to_appear_in_same_query!(accounts, passwords, sessions, refresh_tokens);
