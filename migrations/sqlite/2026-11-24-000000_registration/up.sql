-- Moments are milliseconds since 1970-01-01 UTC; identifiers are the 16 bytes of a UUID.

-- What is known of a phone number that somebody signed up with.
CREATE TABLE registrations (
  phone TEXT NOT NULL PRIMARY KEY,
  version INTEGER NOT NULL,
  stage TEXT NOT NULL CHECK (stage IN ('pending', 'confirmed', 'concealed')),
  sign_ups_full_at INTEGER,
  guesses_full_at INTEGER,
  -- The confirmation that opened the account, so that its repeat can be answered.
  opened_attempt BLOB,
  opened_generation INTEGER,
  opened_fingerprint BLOB,
  opened_address TEXT,
  opened_user BLOB,
  opened_session BLOB,
  opened_at INTEGER,
  opened_wrong_repeats INTEGER,
  owner_told_at INTEGER,
  forget_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX registrations_forget_at ON registrations (forget_at);

-- The sign-ups of one phone, each with its own password and code.
CREATE TABLE attempts (
  id BLOB NOT NULL PRIMARY KEY,
  phone TEXT NOT NULL REFERENCES registrations (phone) ON DELETE CASCADE,
  password TEXT NOT NULL,
  fingerprint BLOB,
  address TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  generation INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  guesses INTEGER NOT NULL,
  messages INTEGER NOT NULL,
  last_message_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX attempts_phone ON attempts (phone);

CREATE TABLE accounts (
  user_id BLOB NOT NULL PRIMARY KEY,
  version INTEGER NOT NULL,
  phone TEXT NOT NULL UNIQUE,
  email TEXT,
  email_canonical TEXT,
  email_confirmed INTEGER NOT NULL CHECK (email_confirmed IN (0, 1)),
  email_link BLOB UNIQUE,
  email_link_expires_at INTEGER,
  email_last_mail_at INTEGER,
  mails_full_at INTEGER,
  first_name TEXT,
  last_name TEXT,
  date_of_birth TEXT,
  primary_currency TEXT,
  residence_country TEXT,
  citizenship_country TEXT,
  residence_state TEXT,
  residence_city TEXT,
  residence_street TEXT,
  residence_zip_code TEXT,
  kyc_level TEXT NOT NULL,
  created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- Only confirmed addresses are unique, so that nobody can squat on one.
CREATE UNIQUE INDEX accounts_confirmed_email ON accounts (email_canonical) WHERE email_confirmed = 1;

-- The newest password of a user is the one that signs in.
CREATE TABLE passwords (
  user_id BLOB NOT NULL REFERENCES accounts (user_id) ON DELETE CASCADE,
  set_at INTEGER NOT NULL,
  hash TEXT NOT NULL,
  PRIMARY KEY (user_id, set_at)
) STRICT, WITHOUT ROWID;

-- Keyed hashes of all numbers that an account holds or ever held. Rows outlive their accounts.
CREATE TABLE used_numbers (
  digest BLOB NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
  id BLOB NOT NULL PRIMARY KEY,
  user_id BLOB NOT NULL REFERENCES accounts (user_id) ON DELETE CASCADE,
  fingerprint BLOB,
  address TEXT NOT NULL,
  created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_user ON sessions (user_id);

CREATE TABLE refresh_tokens (
  hash BLOB NOT NULL PRIMARY KEY,
  session_id BLOB NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  issued_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);
CREATE INDEX refresh_tokens_expires_at ON refresh_tokens (expires_at);

-- When a budget is full again.
CREATE TABLE limits (
  key TEXT NOT NULL PRIMARY KEY,
  full_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX limits_full_at ON limits (full_at);

-- The outbox. What a message says is derived when it is sent; no code or link is in it.
CREATE TABLE messages (
  id BLOB NOT NULL PRIMARY KEY,
  kind TEXT NOT NULL,
  phone TEXT,
  email TEXT,
  attempt BLOB,
  generation INTEGER,
  link BLOB,
  locale TEXT NOT NULL,
  queued_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  due_at INTEGER NOT NULL,
  tries INTEGER NOT NULL,
  dead INTEGER NOT NULL CHECK (dead IN (0, 1)),
  reason TEXT,
  CHECK ((phone IS NULL) <> (email IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX messages_due ON messages (due_at) WHERE dead = 0;
