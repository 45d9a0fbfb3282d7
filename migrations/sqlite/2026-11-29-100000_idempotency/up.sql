-- The first answers to requests with an Idempotency-Key. The digests are keyed, the answer is encrypted; it is NULL while somebody
-- carries the request out.
CREATE TABLE kept_answers (
  request BLOB NOT NULL PRIMARY KEY,
  payload BLOB NOT NULL,
  execution BLOB NOT NULL,
  leased_until INTEGER NOT NULL,
  answer BLOB,
  forget_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX kept_answers_forget_at ON kept_answers (forget_at);
