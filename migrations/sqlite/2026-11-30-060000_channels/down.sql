CREATE INDEX messages_due ON messages (due_at) WHERE dead = 0;
DROP INDEX messages_due_mail;
DROP INDEX messages_due_sms;
