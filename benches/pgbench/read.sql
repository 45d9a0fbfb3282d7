-- A profile read: the account, if the session of the token lives.
\set n random(0, :accounts - 1)
SELECT accounts.* FROM accounts JOIN sessions ON sessions.user_id = accounts.user_id
WHERE sessions.id = lpad(to_hex(:n::bigint), 32, '0')::uuid
  AND accounts.user_id = lpad(to_hex(:n::bigint), 32, '0')::uuid;
