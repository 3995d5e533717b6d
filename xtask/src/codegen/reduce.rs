//! Cuts a published model down to what the tables need: every operation's route, and the shapes that served
//! operations reach, without documentation.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

/// Keys of shapes and members that only people read, or that only clients use.
const DROPPED: &[&str] =
    &["documentation", "documentationUrl", "deprecatedMessage", "deprecatedSince", "endpoint", "auth"];

pub fn reduce(model: &Value, served: &[&str]) -> Result<Value> {
    let mut operations = Map::new();
    let mut reached = BTreeSet::new();
    for (name, operation) in model["operations"].as_object().context("operations")? {
        let mut kept = json!({ "name": name, "http": operation["http"] });
        if served.contains(&name.as_str()) {
            for key in ["input", "output", "errors"] {
                if let Some(value) = operation.get(key) {
                    kept[key] = strip(value);
                    visit(value, model, &mut reached);
                }
            }
        }
        operations.insert(name.clone(), kept);
    }
    for name in served {
        operations.get(*name).with_context(|| format!("the model has no operation {name}"))?;
    }
    let shapes: Map<String, Value> = reached.iter().map(|name| (name.clone(), strip(&model["shapes"][name]))).collect();
    Ok(json!({ "metadata": strip(&model["metadata"]), "operations": operations, "shapes": shapes }))
}

/// Adds every shape that `value` names, and what those name in turn.
fn visit(value: &Value, model: &Value, reached: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(name)) = members.get("shape")
                && reached.insert(name.clone())
            {
                visit(&model["shapes"][name], model, reached);
            }
            members.values().for_each(|v| visit(v, model, reached));
        }
        Value::Array(items) => items.iter().for_each(|v| visit(v, model, reached)),
        _ => {}
    }
}

fn strip(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.iter().filter(|(k, _)| !DROPPED.contains(&k.as_str()));
            Value::Object(kept.map(|(k, v)| (k.clone(), strip(v))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(strip).collect()),
        other => other.clone(),
    }
}
