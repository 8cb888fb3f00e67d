//! Several pools in order: the own one first, then others.
//!
//! A task goes to the next pool only where the one before it cannot take it: it has no node for it, no place, or no such
//! model, or does not answer. How far a pool's tasks travel stands in its policy, which each grant proves: to a pool that is
//! wider than the asker allows ([`crate::verify::OwnPolicy::locality_max`]) nothing is sent, whatever its orchestrators say.

use crate::{Answer, AskError, Client, Model};
use protocol::task::Task;
use transport::Boxed;

/// Clients of several pools, the first being asked first.
#[derive(Clone)]
pub struct Pools {
    clients: Vec<Client>,
}

impl Pools {
    /// Pools in the order in which they are asked.
    ///
    /// # Panics
    /// If there is none.
    pub fn new(clients: Vec<Client>) -> Self {
        assert!(!clients.is_empty(), "there is a pool to ask");
        Self { clients }
    }

    /// The clients, in order.
    pub fn clients(&self) -> &[Client] {
        &self.clients
    }

    /// Whether a link to an orchestrator of any of them is up.
    pub fn is_connected(&self) -> bool {
        self.clients.iter().any(Client::is_connected)
    }

    /// The models of all pools, each once; `default` is the first pool's.
    pub async fn models(&self) -> Result<Vec<Model>, AskError> {
        let (mut models, mut failure): (Vec<Model>, _) = (Vec::new(), None);
        for client in &self.clients {
            match client.models().await {
                Ok(more) => {
                    for model in more {
                        match models.iter_mut().find(|known| known.digest == model.digest) {
                            Some(known) => {
                                known.ready_nodes += model.ready_nodes;
                                known.context_tokens = known.context_tokens.max(model.context_tokens);
                            }
                            None => {
                                let default = model.default && models.is_empty();
                                models.push(Model { default, ..model });
                            }
                        }
                    }
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match failure {
            Some(failure) if models.is_empty() => Err(failure),
            _ => Ok(models),
        }
    }

    /// Gives a task to the first pool that takes it. Where none does, the first one's reason is told, with those of the
    /// others behind it.
    pub fn ask<'a>(&'a self, model: &'a str, task: Task) -> Boxed<'a, Result<Answer, AskError>> {
        Box::pin(async move {
            let mut failures: Vec<AskError> = Vec::new();
            let mut wanted = model.to_owned();
            for (at, client) in self.clients.iter().enumerate() {
                if at == 1 && model.eq_ignore_ascii_case("default") {
                    // The default of the first pool, not whatever another one means by it.
                    if let Some(default) = self.default_of_first().await {
                        wanted = default;
                    }
                }
                match client.ask(&wanted, task.clone()).await {
                    Err(error) if goes_on(&error) => failures.push(error),
                    answered => return answered,
                }
            }
            Err(joined(failures))
        })
    }

    async fn default_of_first(&self) -> Option<String> {
        let models = self.clients.first()?.models().await.ok()?;
        models.into_iter().find(|model| model.default).map(|model| model.name)
    }

    /// Ends every connection.
    pub async fn close(&self) {
        for client in &self.clients {
            client.close().await;
        }
    }
}

/// Whether another pool may take what this one did not.
fn goes_on(error: &AskError) -> bool {
    matches!(
        error,
        AskError::UnknownModel { .. }
            | AskError::NoNode { .. }
            | AskError::Overloaded { .. }
            | AskError::Denied(_)
            | AskError::Unreachable { .. }
            | AskError::NotBelieved { .. }
            | AskError::Unanswered(_)
    )
}

/// What all of them say: the kind of the first, and when the soonest may take it.
fn joined(failures: Vec<AskError>) -> AskError {
    let mut failures = failures.into_iter();
    let Some(first) = failures.next() else { unreachable!("there is a pool to ask") };
    let others: Vec<String> = failures.map(|error| error.to_string()).collect();
    match first {
        AskError::NoNode { mut reasons, retry_after_ms } => {
            reasons.extend(others);
            AskError::NoNode { reasons, retry_after_ms }
        }
        first => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::task::TaskError;

    #[test]
    fn only_what_another_pool_could_take_goes_on() {
        let no_node = |reason: &str| AskError::NoNode { reasons: vec![reason.to_owned()], retry_after_ms: Some(5) };
        assert!(goes_on(&no_node("a")) && goes_on(&AskError::Overloaded { retry_after_ms: 1 }));
        assert!(goes_on(&AskError::UnknownModel { model: "m".to_owned(), known: Vec::new() }));
        // Part of the answer may be out already, or the task itself is wrong.
        assert!(!goes_on(&AskError::Broken { reason: String::new() }));
        assert!(!goes_on(&AskError::Invalid(TaskError::Unsupported { message: String::new() })));
        let said = joined(vec![no_node("a"), AskError::Overloaded { retry_after_ms: 1 }]).to_string();
        assert!(said.contains("a; every node"), "{said}");
    }
}
