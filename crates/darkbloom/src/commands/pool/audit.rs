//! `darkbloom pool audit-export` and `verify-export`: what was paid, for a review that believes nobody.

use super::access::Access;
use crate::{
    amount::Amount,
    cli::{AccessArguments, AuditExportArguments, VerifyExportArguments},
    failure::Failure,
    home::{Home, KeyRole},
};
use client::export;
use std::{fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt, process::ExitCode};

/// Asks an orchestrator for the settlements, and seals them with this home's account.
pub async fn export(home: &Home, arguments: &AuditExportArguments) -> Result<ExitCode, Failure> {
    let ms = |time: Option<jiff::Timestamp>, default| {
        time.map_or(default, |time| u64::try_from(time.as_millisecond()).unwrap_or_default())
    };
    let (from, to) = (ms(arguments.from, 0), ms(arguments.to, u64::MAX));
    let account = home.key(KeyRole::Account)?;
    let access = AccessArguments { join: arguments.join.clone(), json: false };
    let Access { client, ticket, .. } = Access::open(home, &access).await?;
    let asked =
        async { Ok::<_, client::AskError>((client.history().await?, client.settlements(from, to, &account).await?)) };
    let asked = asked.await;
    client.close().await;
    let (history, settlements) = asked.map_err(|error| {
        Failure::new(error).hint("an owner, administrator or auditor asks this, in the home whose account stands so")
    })?;
    let text = export::write(ticket.pool, &history, &settlements, &account).map_err(|error| {
        Failure::new(format!("what the orchestrator shows does not hold: {error}"))
            .hint("run it again: another orchestrator may be asked then")
    })?;
    let path = &arguments.out;
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error: std::io::Error| Failure::new(format!("cannot write {}: {error}", path.display())))?;
    println!("{} receipts in {}", settlements.len(), path.display());
    eprintln!("anybody verifies it with `darkbloom pool verify-export {} --pool {}`", path.display(), ticket.pool);
    Ok(ExitCode::SUCCESS)
}

/// Verifies a file with nothing but the pool's id.
pub fn verify(arguments: &VerifyExportArguments) -> Result<ExitCode, Failure> {
    let path = &arguments.file;
    let fail = |error: &dyn std::fmt::Display| Failure::new(format!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| fail(&error))?;
    let verified = export::verify(&text, arguments.pool)
        .map_err(|error| fail(&error).hint("the file shows nothing: get it again from whoever made it"))?;
    println!(
        "verified: {} receipts, {} tasks, {} credits; made by account {}",
        verified.receipts,
        verified.tasks,
        Amount(verified.paid_micro),
        verified.signer
    );
    Ok(ExitCode::SUCCESS)
}
