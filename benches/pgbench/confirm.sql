-- A confirmation: the registration with its attempts, then all that opens an account, in one transaction and one round trip.
\set n :first + :client_id * :per_connection + :turn
\set turn :turn + 1
SELECT registrations.version, attempts.id, attempts.phone, attempts.password
FROM registrations LEFT JOIN attempts ON attempts.phone = registrations.phone
WHERE registrations.phone = '+44740' || lpad((:n::bigint * 1000003 % 10000000)::text, 7, '0') \gset
\startpipeline
BEGIN;
UPDATE registrations SET version = version + 1, stage = 'confirmed', opened_attempt = :id, opened_generation = 0,
  opened_address = '127.0.0.1', opened_user = :id, opened_session = :id, opened_at = now(), opened_wrong_repeats = 0
WHERE phone = :phone AND version = :version;
DELETE FROM attempts WHERE id = :id;
INSERT INTO used_numbers (digest) VALUES (sha256(convert_to(:phone, 'UTF8')));
INSERT INTO accounts (user_id, version, phone, email_confirmed, kyc_level, created_at)
VALUES (:id, 1, :phone, false, 'NONE', now());
INSERT INTO passwords (user_id, set_at, hash) VALUES (:id, now(), :password);
INSERT INTO sessions (id, user_id, address, created_at) VALUES (:id, :id, '127.0.0.1', now());
INSERT INTO refresh_tokens (hash, session_id, issued_at, expires_at)
VALUES (sha256(convert_to(:phone, 'UTF8')), :id, now(), now() + interval '30 days');
COMMIT;
\endpipeline
