-- Dead letters, for each channel by itself, so that they are counted without a look at what waits.
CREATE INDEX messages_dead_sms ON messages (queued_at) WHERE dead = 1 AND phone IS NOT NULL;
CREATE INDEX messages_dead_mail ON messages (queued_at) WHERE dead = 1 AND email IS NOT NULL;
