-- A change of one account: the read that every request begins with, and the update of the version that was read.
\set n :client_id * :accounts / 16 + random(0, :accounts / 16 - 1)
\set value random(1, 1000000)
SELECT accounts.* FROM accounts JOIN sessions ON sessions.user_id = accounts.user_id
WHERE sessions.id = lpad(to_hex(:n::bigint), 32, '0')::uuid
  AND accounts.user_id = lpad(to_hex(:n::bigint), 32, '0')::uuid \gset
UPDATE accounts SET version = version + 1, first_name = :value WHERE user_id = :user_id AND version = :version;
