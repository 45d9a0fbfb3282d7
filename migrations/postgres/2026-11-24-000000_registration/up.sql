-- What the domain says is said here again as far as a constraint can say it.

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
  phone text NOT NULL PRIMARY KEY CHECK (phone ~ '^\+[1-9][0-9]{4,14}$'),
  version bigint NOT NULL CHECK (version > 0),
  stage text NOT NULL CHECK (stage IN ('pending', 'confirmed', 'concealed')),
  sign_ups_full_at timestamptz,
  guesses_full_at timestamptz,
  -- The confirmation that opened the account, so that its repeat can be answered.
  opened_attempt uuid,
  opened_generation bigint,
  opened_fingerprint bytea CHECK (length(opened_fingerprint) = 32),
  opened_address text,
  opened_user uuid,
  opened_session uuid,
  opened_at timestamptz,
  opened_wrong_repeats bigint CHECK (opened_wrong_repeats >= 0),
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
  phone text NOT NULL REFERENCES registrations (phone) ON DELETE CASCADE,
  password text NOT NULL CHECK (length(password) BETWEEN 1 AND 512),
  fingerprint bytea CHECK (length(fingerprint) = 32),
  address text NOT NULL,
  created_at timestamptz NOT NULL,
  generation bigint NOT NULL CHECK (generation >= 0),
  expires_at timestamptz NOT NULL,
  guesses bigint NOT NULL CHECK (guesses >= 0),
  messages bigint NOT NULL CHECK (messages >= 0),
  last_message_at timestamptz NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX attempts_phone ON attempts (phone);

CREATE TABLE accounts (
  user_id uuid NOT NULL PRIMARY KEY,
  version bigint NOT NULL CHECK (version > 0),
  phone text NOT NULL CONSTRAINT accounts_phone UNIQUE CHECK (phone ~ '^\+[1-9][0-9]{4,14}$'),
  email text CHECK (octet_length(email) <= 254),
  email_canonical text CHECK (octet_length(email_canonical) <= 254),
  email_confirmed boolean NOT NULL,
  email_link uuid CONSTRAINT accounts_email_link UNIQUE,
  email_link_expires_at timestamptz,
  email_last_mail_at timestamptz,
  mails_full_at timestamptz,
  first_name text CHECK (length(first_name) BETWEEN 1 AND 100),
  last_name text CHECK (length(last_name) BETWEEN 1 AND 100),
  date_of_birth date,
  primary_currency text CHECK (length(primary_currency) = 3),
  residence_country text CHECK (length(residence_country) = 2),
  citizenship_country text CHECK (length(citizenship_country) = 2),
  residence_state text CHECK (length(residence_state) BETWEEN 1 AND 100),
  residence_city text CHECK (length(residence_city) BETWEEN 1 AND 100),
  residence_street text CHECK (length(residence_street) BETWEEN 1 AND 100),
  residence_zip_code text CHECK (length(residence_zip_code) BETWEEN 1 AND 16),
  kyc_level text NOT NULL CHECK (kyc_level IN ('NONE', 'KYC_0')),
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
  hash text NOT NULL CHECK (length(hash) BETWEEN 1 AND 512),
  PRIMARY KEY (user_id, set_at)
);

-- Keyed hashes of all numbers that an account holds or ever held. Rows outlive their accounts.
CREATE TABLE used_numbers (
  digest bytea NOT NULL CONSTRAINT used_numbers_digest PRIMARY KEY CHECK (length(digest) = 32)
);

CREATE TABLE sessions (
  id uuid NOT NULL PRIMARY KEY,
  user_id uuid NOT NULL REFERENCES accounts (user_id) ON DELETE CASCADE,
  fingerprint bytea CHECK (length(fingerprint) = 32),
  address text NOT NULL,
  created_at timestamptz NOT NULL
);
CREATE INDEX sessions_user ON sessions (user_id);

CREATE TABLE refresh_tokens (
  hash bytea NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
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
  generation bigint,
  link uuid,
  locale text NOT NULL,
  queued_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  due_at timestamptz NOT NULL,
  tries bigint NOT NULL CHECK (tries >= 0),
  dead boolean NOT NULL,
  reason text,
  CHECK (num_nonnulls(phone, email) = 1)
) WITH (
  -- Rows come and go within a second: what they leave is cleared away by number, not by share, and at once.
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000
);
CREATE INDEX messages_due ON messages (due_at) WHERE NOT dead;
