use std::collections::HashSet;

use vestibule_port_storage::Sweep;

use super::State;

impl State {
    pub(super) fn sweep(&mut self, sweep: Sweep) -> usize {
        let before = self.rows();
        self.registrations.retain(|_, registration| registration.value.forget_at() > sweep.now);
        self.guards.retain(|_, guard| guard.value.forget_at() > sweep.now);
        self.resets.retain(|_, reset| reset.value.forget_at() > sweep.now);
        self.signatures.retain(|_, forget_at| *forget_at > sweep.now);
        self.answers.retain(|_, answer| answer.execution.forget_at > sweep.now);
        self.limits.retain(|_, full_at| *full_at > sweep.now);
        self.facts.retain(|fact| fact.at >= sweep.facts_before);
        let mut ended = HashSet::new();
        self.refresh_tokens.retain(|_, token| {
            let lives = token.expires_at > sweep.now;
            if !lives {
                ended.insert(token.session);
            }
            lives
        });
        for token in self.refresh_tokens.values() {
            ended.remove(&token.session);
        }
        self.sessions.retain(|id, _| !ended.contains(id));
        self.messages
            .retain(|queued| queued.dead.is_none() || queued.message.queued_at >= sweep.messages_before);
        self.deliveries.retain(|left| left.queued_at >= sweep.messages_before);
        self.spending.retain(|(_, _, start), _| *start >= sweep.messages_before);
        self.sent_codes.retain(|(sent, _)| sent.at >= sweep.messages_before);
        self.held_codes.retain(|(_, held)| held.at >= sweep.messages_before);
        before - self.rows()
    }

    /// How many rows there are of what a sweep may forget.
    fn rows(&self) -> usize {
        self.registrations.len()
            + self.guards.len()
            + self.resets.len()
            + self.signatures.len()
            + self.answers.len()
            + self.limits.len()
            + self.facts.len()
            + self.refresh_tokens.len()
            + self.sessions.len()
            + self.messages.len()
            + self.deliveries.len()
            + self.spending.len()
            + self.sent_codes.len()
            + self.held_codes.len()
    }
}
