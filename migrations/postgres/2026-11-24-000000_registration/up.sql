-- What the domain says is said here again as far as a constraint can say it.

-- The rules for one column are domains: the server keeps those ready in a session, while it reads a table's own checks anew for every
-- statement that writes (decision 33). What is said of several columns stays with the table.
CREATE DOMAIN positive_number AS bigint CHECK (VALUE > 0);
CREATE DOMAIN whole_number AS bigint CHECK (VALUE >= 0);
CREATE DOMAIN digest AS bytea CHECK (length(VALUE) = 32);
CREATE DOMAIN phone_number AS text CHECK (VALUE ~ '^\+[1-9][0-9]{4,14}$');
CREATE DOMAIN registration_stage AS text CHECK (VALUE IN ('pending', 'confirmed', 'concealed'));
CREATE DOMAIN password_hash AS text CHECK (length(VALUE) BETWEEN 1 AND 512);
CREATE DOMAIN email_address AS text CHECK (octet_length(VALUE) <= 254);
CREATE DOMAIN profile_text AS text CHECK (length(VALUE) BETWEEN 1 AND 100);
CREATE DOMAIN zip_code AS text CHECK (length(VALUE) BETWEEN 1 AND 16);
CREATE DOMAIN country_code AS text CHECK (VALUE ~ '^[A-Z]{2}$');
CREATE DOMAIN currency_code AS text CHECK (length(VALUE) = 3);
CREATE DOMAIN kyc_level AS text CHECK (VALUE IN ('NONE', 'KYC_0'));

-- Raises an error that undoes the whole statement when a part of it has found nothing to change. `name` tells which.
CREATE FUNCTION vestibule_demand(changed bigint, name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF changed = 0 THEN
    RAISE unique_violation USING MESSAGE = 'nothing to change', CONSTRAINT = name;
  END IF;
END
$$;

-- What is known of a phone number that somebody signed up with.
CREATE TABLE registrations (
  phone phone_number NOT NULL PRIMARY KEY,
  version positive_number NOT NULL,
  stage registration_stage NOT NULL,
  sign_ups_full_at timestamptz,
  guesses_full_at timestamptz,
  -- The confirmation that opened the account, so that its repeat can be answered.
  opened_attempt uuid,
  opened_generation whole_number,
  opened_fingerprint digest,
  opened_address text,
  opened_user uuid,
  opened_session uuid,
  opened_at timestamptz,
  opened_wrong_repeats whole_number,
  owner_told_at timestamptz CHECK (owner_told_at IS NULL OR stage = 'concealed'),
  forget_at timestamptz NOT NULL,
  CONSTRAINT registrations_opened CHECK (
    CASE num_nonnulls(opened_attempt, opened_generation, opened_address, opened_user, opened_session, opened_at, opened_wrong_repeats)
      WHEN 0 THEN opened_fingerprint IS NULL AND stage <> 'confirmed'
      WHEN 7 THEN stage <> 'pending'
      ELSE false
    END
  )
) WITH (fillfactor = 80);
CREATE INDEX registrations_forget_at ON registrations (forget_at);

-- The sign-ups of one phone, each with its own password and code.
CREATE TABLE attempts (
  id uuid NOT NULL PRIMARY KEY,
  phone phone_number NOT NULL REFERENCES registrations (phone) ON DELETE CASCADE,
  password password_hash NOT NULL,
  fingerprint digest,
  address text NOT NULL,
  created_at timestamptz NOT NULL,
  generation whole_number NOT NULL,
  expires_at timestamptz NOT NULL,
  guesses whole_number NOT NULL,
  messages whole_number NOT NULL,
  last_message_at timestamptz NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX attempts_phone ON attempts (phone);

CREATE TABLE accounts (
  user_id uuid NOT NULL PRIMARY KEY,
  version positive_number NOT NULL,
  phone phone_number NOT NULL CONSTRAINT accounts_phone UNIQUE,
  email email_address,
  email_canonical email_address,
  email_confirmed boolean NOT NULL,
  email_link uuid CONSTRAINT accounts_email_link UNIQUE,
  email_link_expires_at timestamptz,
  email_last_mail_at timestamptz,
  mails_full_at timestamptz,
  first_name profile_text,
  last_name profile_text,
  date_of_birth date,
  primary_currency currency_code,
  residence_country country_code,
  citizenship_country country_code,
  residence_state profile_text,
  residence_city profile_text,
  residence_street profile_text,
  residence_zip_code zip_code,
  kyc_level kyc_level NOT NULL,
  created_at timestamptz NOT NULL,
  -- No address, an unconfirmed one with the life of its link, or a confirmed one.
  CONSTRAINT accounts_email CHECK (
    CASE num_nonnulls(email, email_canonical, email_link)
      WHEN 0 THEN NOT email_confirmed
      WHEN 3 THEN email_confirmed = (num_nonnulls(email_link_expires_at, email_last_mail_at) = 0)
      ELSE false
    END
  )
) WITH (fillfactor = 80);
-- Only confirmed addresses are unique, so that nobody can squat on one.
CREATE UNIQUE INDEX accounts_confirmed_email ON accounts (email_canonical) WHERE email_confirmed;

-- The newest password of a user is the one that signs in.
CREATE TABLE passwords (
  user_id uuid NOT NULL REFERENCES accounts (user_id) ON DELETE CASCADE,
  set_at timestamptz NOT NULL,
  hash password_hash NOT NULL,
  PRIMARY KEY (user_id, set_at)
);

-- Keyed hashes of all numbers that an account holds or ever held. Rows outlive their accounts.
CREATE TABLE used_numbers (
  digest digest NOT NULL CONSTRAINT used_numbers_digest PRIMARY KEY
);

CREATE TABLE sessions (
  id uuid NOT NULL PRIMARY KEY,
  user_id uuid NOT NULL REFERENCES accounts (user_id) ON DELETE CASCADE,
  fingerprint digest,
  address text NOT NULL,
  created_at timestamptz NOT NULL
);
CREATE INDEX sessions_user ON sessions (user_id);

CREATE TABLE refresh_tokens (
  hash digest NOT NULL PRIMARY KEY,
  session_id uuid NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  issued_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL CHECK (expires_at >= issued_at)
);
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);
CREATE INDEX refresh_tokens_expires_at ON refresh_tokens (expires_at);

-- When a budget is full again.
CREATE TABLE limits (
  key text NOT NULL PRIMARY KEY,
  full_at timestamptz NOT NULL
) WITH (fillfactor = 50);
CREATE INDEX limits_full_at ON limits (full_at);

-- The outbox. What a message says is derived when it is sent; no code or link is in it.
CREATE TABLE messages (
  id uuid NOT NULL PRIMARY KEY,
  kind text NOT NULL,
  phone text,
  email text,
  attempt uuid,
  generation whole_number,
  link uuid,
  locale text NOT NULL,
  queued_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  due_at timestamptz NOT NULL,
  tries whole_number NOT NULL,
  dead boolean NOT NULL,
  reason text,
  CHECK (num_nonnulls(phone, email) = 1)
) WITH (
  -- Rows come and go within a second: what they leave is cleared away by number, not by share, and at once.
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000
);
CREATE INDEX messages_due ON messages (due_at) WHERE NOT dead;
