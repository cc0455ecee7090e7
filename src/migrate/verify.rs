//! `pulso migrate verify`: whether what the database has is what this version would have made.

use super::online::{Standing, Statement};
use super::packs::{Kind, PACKS};
use super::{contract, inspect, log};
use crate::error::Result;
use serde::Serialize;
use tokio_postgres::Client;

#[derive(Debug, Serialize)]
pub struct Difference {
    pub pack: &'static str,
    pub step: String,
    pub difference: String,
}

pub async fn differences(client: &Client) -> Result<Vec<Difference>> {
    let logged = log::applied(client).await?;
    let mut found = Vec::new();
    for pack in PACKS {
        let history = inspect::history(client, pack).await?;
        let last = history.keys().max().copied().unwrap_or(0);
        let steps = pack.steps();
        let mut differs =
            |step: String, difference: String| found.push(Difference { pack: pack.name, step, difference });
        for (version, (name, ..)) in &history {
            if !steps.iter().any(|step| !step.online() && step.version == *version) {
                differs(format!("V{version}__{name}"), "this version of Pulso does not know it".to_owned());
            }
        }
        for step in &steps {
            let checksum = step.checksum.to_string();
            match &step.kind {
                Kind::Transaction => match history.get(&step.version) {
                    Some((name, _, applied)) if *applied != checksum || !step.name.ends_with(name.as_str()) => {
                        differs(
                            step.name.clone(),
                            format!("applied with another text: {name}, checksum {applied}, here {checksum}"),
                        );
                    }
                    None if step.version < last => {
                        differs(step.name.clone(), "left out, though later ones are applied".to_owned())
                    }
                    _ => (),
                },
                Kind::Online(statements) => {
                    let Some(entry) = logged.get(&(pack.name.to_owned(), step.name.clone())) else { continue };
                    if entry.checksum.as_ref().is_some_and(|applied| *applied != checksum) {
                        differs(step.name.clone(), "applied with another text".to_owned());
                    }
                    for statement in statements {
                        let Statement::Index { name, .. } = statement else { continue };
                        match statement.standing(client, false).await? {
                            Standing::ToDo => differs(step.name.clone(), format!("index {name} was dropped since")),
                            Standing::Leftover => differs(
                                step.name.clone(),
                                format!("index {name} is invalid; `pulso migrate up` makes it anew"),
                            ),
                            Standing::Done | Standing::Moot(_) => (),
                        }
                    }
                }
            }
        }
    }
    if contract::exists(client).await? {
        for file in contract::pending(client).await? {
            found.push(Difference { pack: "contract", step: file, difference: "applied with another text".to_owned() });
        }
    }
    Ok(found)
}
