-- Where the confirmation came from that opened the account; accounts from before have none.
ALTER TABLE accounts ADD COLUMN opened_fingerprint BLOB;
ALTER TABLE accounts ADD COLUMN opened_address TEXT;
ALTER TABLE accounts ADD COLUMN blocked INTEGER NOT NULL DEFAULT 0 CHECK (blocked IN (0, 1));

-- How far the rotation of the refresh tokens has come.
ALTER TABLE sessions ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
ALTER TABLE sessions ADD COLUMN last_used_at INTEGER;
ALTER TABLE sessions ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN used INTEGER NOT NULL DEFAULT 0 CHECK (used IN (0, 1));
ALTER TABLE sessions ADD COLUMN spent BLOB;
ALTER TABLE refresh_tokens ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;

-- Who may try passwords for a number, whether or not it has an account.
CREATE TABLE sign_in_guards (
  phone TEXT NOT NULL PRIMARY KEY,
  version INTEGER NOT NULL,
  failures INTEGER NOT NULL,
  failed_at INTEGER,
  locked_until INTEGER,
  origins TEXT NOT NULL,
  forget_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sign_in_guards_forget_at ON sign_in_guards (forget_at);

-- Requests for a new password, whether or not the number has an account.
CREATE TABLE password_resets (
  phone TEXT NOT NULL PRIMARY KEY,
  version INTEGER NOT NULL,
  requests_full_at INTEGER,
  guesses_full_at INTEGER,
  attempts TEXT NOT NULL,
  forget_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX password_resets_forget_at ON password_resets (forget_at);

-- The audit trail. Numbers are keyed hashes and masked, so that a line may outlive its account.
CREATE TABLE facts (
  id BLOB NOT NULL PRIMARY KEY,
  at INTEGER NOT NULL,
  event TEXT NOT NULL,
  number BLOB NOT NULL,
  phone TEXT NOT NULL,
  user_id BLOB,
  session_id BLOB,
  fingerprint BLOB,
  address TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX facts_number ON facts (number, at);
CREATE INDEX facts_user ON facts (user_id, at) WHERE user_id IS NOT NULL;
CREATE INDEX facts_at ON facts (at);
