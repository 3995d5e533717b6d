//! The floor under warm calls: a bare hyper server that hands each request's body to a runtime client that waits.
//!
//! `floor COUNT FOLDER EXECUTION_ENV PROGRAM [ARGUMENT]...` starts COUNT runtime clients in FOLDER, unconfined, prints
//! `ready ADDRESS` and ends with its stdin. EXECUTION_ENV is `AWS_EXECUTION_ENV`, by which clients choose how they poll. Nothing is verified, admitted, limited, logged or recorded.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use flint_base::{Clock, SystemClock};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

struct Call {
    id: u64,
    event: Bytes,
}

struct Floor {
    clock: SystemClock,
    count: AtomicU64,
    queues: Mutex<Queues>,
}

#[derive(Default)]
struct Queues {
    /// Clients that wait for an event, the last to come at the end: at most as many as there are clients.
    idle: Vec<oneshot::Sender<Call>>,
    /// Calls that wait for a client: at most as many as there are connections.
    waiting: Vec<Call>,
    running: HashMap<u64, oneshot::Sender<Bytes>>,
}

impl Floor {
    fn queues(&self) -> std::sync::MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn front(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let Ok(body) = request.into_body().collect().await else { return told(StatusCode::BAD_REQUEST) };
        let id = self.count.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        {
            let mut queues = self.queues();
            queues.running.insert(id, sender);
            let mut call = Call { id, event: body.to_bytes() };
            loop {
                let Some(client) = queues.idle.pop() else {
                    queues.waiting.push(call);
                    break;
                };
                match client.send(call) {
                    Ok(()) => break,
                    Err(returned) => call = returned,
                }
            }
        }
        match answer.await {
            Ok(body) => Response::new(Full::new(body)),
            Err(_) => told(StatusCode::BAD_GATEWAY),
        }
    }

    async fn runtime_api(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() == Method::GET {
            let receiver = {
                let mut queues = self.queues();
                let (sender, receiver) = oneshot::channel();
                match queues.waiting.pop() {
                    Some(call) => drop(sender.send(call)),
                    None => queues.idle.push(sender),
                }
                receiver
            };
            let Ok(call) = receiver.await else { return told(StatusCode::GONE) };
            let deadline = self.clock.now().as_millis() + 30_000;
            let response = Response::builder()
                .header("content-type", "application/json")
                .header("lambda-runtime-aws-request-id", format!("00000000-0000-4000-8000-{:012x}", call.id))
                .header("lambda-runtime-deadline-ms", deadline)
                .header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:000000000000:function:floor")
                .header("lambda-runtime-trace-id", "Root=1-00000000-000000000000000000000000;Sampled=0");
            return response.body(Full::new(call.event)).unwrap_or_else(|_| told(StatusCode::INTERNAL_SERVER_ERROR));
        }
        let path = request.uri().path().to_owned();
        let Ok(body) = request.into_body().collect().await else { return told(StatusCode::BAD_REQUEST) };
        let body = body.to_bytes();
        let answered =
            path.strip_suffix("/response").and_then(|path| u64::from_str_radix(path.get(path.len() - 12..)?, 16).ok());
        match answered.and_then(|id| self.queues().running.remove(&id)) {
            // A caller that has gone needs no answer.
            Some(caller) => drop(caller.send(body)),
            None => eprintln!("floor: {path}: {}", String::from_utf8_lossy(&body)),
        }
        told(StatusCode::ACCEPTED)
    }
}

fn told(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [count, folder, execution_env, program, arguments @ ..] = words.as_slice() else {
        anyhow::bail!("floor COUNT FOLDER EXECUTION_ENV PROGRAM [ARGUMENT]...");
    };
    let count: usize = count.parse().context("how many clients")?;
    // Like the server's own.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let floor = Arc::new(Floor { clock: SystemClock::new(), count: AtomicU64::new(0), queues: Mutex::default() });
    let (front, api) = runtime.block_on(async {
        anyhow::Ok((TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?))
    })?;
    let (address, api_address) = (front.local_addr()?, api.local_addr()?);
    runtime.spawn(serve(front, floor.clone(), false));
    runtime.spawn(serve(api, floor.clone(), true));

    let mut clients = Clients(Vec::new());
    for _ in 0..count {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(folder).env_clear();
        command.env("AWS_LAMBDA_RUNTIME_API", api_address.to_string());
        for (name, value) in [
            ("_HANDLER", "app.handler"),
            ("LAMBDA_TASK_ROOT", folder.as_str()),
            ("AWS_LAMBDA_FUNCTION_NAME", "floor"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/floor"),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "floor"),
            ("AWS_REGION", "us-east-1"),
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("LANG", "en_US.UTF-8"),
        ] {
            command.env(name, value);
        }
        if !execution_env.is_empty() {
            command.env("AWS_EXECUTION_ENV", execution_env);
        }
        clients.0.push(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context(program.clone())?);
    }
    until(&floor, count)?;
    println!("ready {address}");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Waits until every client has asked for its first event.
fn until(floor: &Floor, count: usize) -> Result<()> {
    for _ in 0..3000 {
        if floor.queues().idle.len() == count {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    anyhow::bail!("the clients did not ask for an event within 30 s")
}

async fn serve(listener: TcpListener, floor: Arc<Floor>, is_api: bool) {
    while let Ok((stream, _)) = listener.accept().await {
        // An option that can't be set costs time only.
        let _ = stream.set_nodelay(true);
        let floor = floor.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let floor = floor.clone();
                async move {
                    let response = if is_api { floor.runtime_api(request).await } else { floor.front(request).await };
                    Ok::<_, Infallible>(response)
                }
            });
            // A peer that breaks off is its own affair.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Ended with us.
struct Clients(Vec<Child>);

impl Drop for Clients {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // It may have ended by itself already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
