//! The behaviours of the runtime suite, in Rust, on the `lambda_runtime` crate. `app.py` and `app.js` say the same.

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use lambda_runtime::{Context, Diagnostic, LambdaEvent, service_fn};
use serde_json::{Value, json};

static COUNT: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
struct Failure(&'static str, String);

impl From<Failure> for Diagnostic {
    fn from(f: Failure) -> Self {
        Diagnostic { error_type: f.0.to_owned(), error_message: f.1 }
    }
}

fn remaining(context: &Context) -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    context.deadline.saturating_sub(now)
}

fn of_context(context: &Context) -> Value {
    let client = context.client_context.as_ref();
    json!({
        "function_name": context.env_config.function_name,
        "function_version": context.env_config.version,
        "memory": context.env_config.memory,
        "request_id": context.request_id,
        "arn": context.invoked_function_arn,
        "log_group": context.env_config.log_group,
        "log_stream": context.env_config.log_stream,
        "remaining": remaining(context),
        "custom": client.map(|c| &c.custom),
        "env": client.map(|c| &c.environment),
        "trace": context.xray_trace_id,
    })
}

async fn act(what: &str, event: &Value, context: &Context) -> Result<Value, Failure> {
    let text = |name: &str| event[name].as_str().unwrap_or_default();
    Ok(match what {
        "count" => json!(COUNT.fetch_add(1, Ordering::Relaxed) + 1),
        "context" => of_context(context),
        "remaining" => {
            let first = remaining(context);
            tokio::time::sleep(Duration::from_millis(100)).await;
            json!([first, remaining(context)])
        }
        "variable" => json!(std::env::var(text("name")).ok()),
        "directory" => json!(std::env::current_dir().expect("a directory")),
        "write" => json!(std::fs::write(text("path"), "x").map_or("refused", |()| "written")),
        "read" => json!(std::fs::read_to_string(text("path")).map_err(|e| Failure("IoError", e.to_string()))?),
        "size" => json!(text("text").chars().count()),
        "fill" => json!("x".repeat(event["size"].as_u64().unwrap_or(2) as usize - 2)),
        "raise" => return Err(Failure("ValueError", event["message"].as_str().unwrap_or("no way").to_owned())),
        "custom" => return Err(Failure("CustomError", "of my own".to_owned())),
        "print" => {
            for line in event["lines"].as_array().into_iter().flatten() {
                println!("{}", line.as_str().unwrap_or_default());
            }
            Value::Null
        }
        "print_error" => {
            eprintln!("{}", text("line"));
            Value::Null
        }
        "print_unfinished" => {
            print!("{}", text("line"));
            std::io::stdout().flush().expect("a pipe");
            Value::Null
        }
        "exit" => std::process::exit(event["code"].as_i64().unwrap_or(0) as i32),
        "kill" => {
            let pid = std::process::id().to_string();
            std::process::Command::new("/bin/sh").args(["-c", &format!("kill -9 {pid}")]).status().expect("a shell");
            std::thread::sleep(Duration::from_secs(60));
            Value::Null
        }
        "sleep" => {
            tokio::time::sleep(Duration::from_secs_f64(event["seconds"].as_f64().unwrap_or(60.0))).await;
            json!("slept")
        }
        "eat" => {
            let mut held = Vec::new();
            loop {
                held.push(vec![1u8; 8 << 20]);
            }
        }
        other => return Err(Failure("Unknown", other.to_owned())),
    })
}

async fn handler(event: LambdaEvent<Value>) -> Result<Value, Failure> {
    let (payload, context) = event.into_parts();
    match payload.get("do").and_then(Value::as_str) {
        Some(what) => act(&what.to_owned(), &payload, &context).await,
        None => Ok(payload),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    println!("init");
    lambda_runtime::run(service_fn(handler)).await
}
