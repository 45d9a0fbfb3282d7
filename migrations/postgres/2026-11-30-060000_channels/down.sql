CREATE INDEX messages_due ON messages (due_at) WHERE NOT dead;
DROP INDEX messages_due_mail;
DROP INDEX messages_due_sms;
