DROP INDEX messages_dead_mail;
DROP INDEX messages_dead_sms;
