//! Commits, by themselves or several in one transaction: see [`Gather`].

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use diesel_async::AsyncPgConnection;
use futures_util::future::join_all;
use tokio::time::timeout;
use vestibule_port_storage::{Changes, CommitError, Unavailable};

use crate::commit::{self, GroupError};
use crate::connection::{Connections, PATIENCE, late};
use crate::gather::{Gather, Wanted};
use crate::listen::Neighbours;

/// How many are written in one transaction.
const MOST: usize = 64;

/// How many are taken out of one, one after the other, before all are written by themselves.
const MOST_APART: usize = 4;

pub(crate) struct Commits {
    writer: Writer,
    grouped: Gather<Changes, Result<(), CommitError>>,
}

impl Commits {
    /// Commits on the connections, in groups of up to `threads` threads.
    pub(crate) fn new(connections: &Connections, neighbours: &Arc<Neighbours>, threads: usize) -> Self {
        let writer = Writer {
            connections: connections.clone(),
            neighbours: Arc::clone(neighbours),
            turn: Arc::default(),
        };
        let grouped = {
            let writer = writer.clone();
            Gather::new(threads, MOST, move |_, wanted| writer.clone().commit_all(wanted))
        };
        Self { writer, grouped }
    }

    /// Commits, and answers in time. Once begun it goes on though the caller goes away: whoever waits for messages must hear of them
    /// all the same.
    pub(crate) async fn commit(&self, changes: Changes) -> Result<(), CommitError> {
        let committed = if commit::may_be_grouped(&changes) {
            timeout(PATIENCE, self.grouped.ask(changes)).await.unwrap_or_else(|_| Some(Err(late().into())))
        } else {
            let writer = self.writer.clone();
            tokio::spawn(async move { writer.commit(changes).await }).await.ok()
        };
        let gone = || Err(Unavailable("the thread that commits has ended".to_owned()).into());
        committed.unwrap_or_else(gone)
    }

    /// The number of a commit that is made elsewhere.
    pub(crate) fn turn(&self) -> usize {
        self.writer.turn.fetch_add(1, Ordering::Relaxed)
    }
}

#[derive(Clone)]
struct Writer {
    connections: Connections,
    neighbours: Arc<Neighbours>,
    /// Commits so far.
    turn: Arc<AtomicUsize>,
}

impl Writer {
    async fn commit(&self, changes: Changes) -> Result<(), CommitError> {
        let queues = !changes.messages.is_empty();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        // What it holds over its waits is large.
        let apply = async |connection: &mut AsyncPgConnection| {
            Box::pin(commit::apply(connection, changes, turn)).await
        };
        self.connections.lend(apply).await?;
        if queues {
            self.neighbours.tell();
        }
        Ok(())
    }

    /// In one transaction if there are several, but for those that it fails for; each of those by itself, and all if there is no end to that.
    async fn commit_all(self, mut group: Vec<Wanted<Changes, Result<(), CommitError>>>) {
        let mut apart = Vec::new();
        while group.len() > 1 && apart.len() < MOST_APART {
            let result = match self.commit_group(&group).await {
                Ok(()) => Ok(()),
                Err(GroupError::Unavailable(unavailable)) => Err(CommitError::from(unavailable)),
                Err(GroupError::Refused(number)) if number < group.len() => {
                    apart.push(group.remove(number));
                    continue;
                }
                Err(GroupError::Refused(_) | GroupError::Failed) => break,
            };
            for Wanted { reply, .. } in mem::take(&mut group) {
                // Who asked may have gone.
                let _ = reply.send(result.clone());
            }
        }
        group.append(&mut apart);
        group.retain(|wanted| !wanted.reply.is_closed());
        let apart = group.into_iter().map(async |Wanted { what, reply }| {
            let _ = reply.send(self.commit(what).await);
        });
        join_all(apart).await;
    }

    async fn commit_group(
        &self,
        group: &[Wanted<Changes, Result<(), CommitError>>],
    ) -> Result<(), GroupError> {
        let queues = group.iter().any(|wanted| !wanted.what.messages.is_empty());
        let group: Vec<_> = group.iter().map(|wanted| wanted.what.clone()).collect();
        let turn = self.turn.fetch_add(group.len(), Ordering::Relaxed);
        let apply =
            async |connection: &mut AsyncPgConnection| commit::apply_group(connection, group, turn).await;
        self.connections.lend(apply).await?;
        if queues {
            self.neighbours.tell();
        }
        Ok(())
    }
}
