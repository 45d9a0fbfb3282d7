-- What is due, for each channel by itself, so that many mails that wait are not looked through for the next SMS. The version before does without:
-- the table is all but empty.
CREATE INDEX messages_due_sms ON messages (due_at) WHERE NOT dead AND phone IS NOT NULL;
CREATE INDEX messages_due_mail ON messages (due_at) WHERE NOT dead AND email IS NOT NULL;
DROP INDEX messages_due;
