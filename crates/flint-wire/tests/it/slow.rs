//! Clients that wait, with limits short enough to see them end, and calls that may wait.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flint_kit::{Body, Ctx, Doc, Fault, Input, Output};
use flint_wire::{Gate, Limits};
use futures_util::{StreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{OneKey, World, credentials, echo, now, read_reply, wire_bytes};

const INVOKE: &str = "/2015-03-31/functions/f/invocations";
const HEALTH: &[u8] = b"GET /_flint/health HTTP/1.1\r\nHost: x\r\n\r\n";

const SHORT: Duration = Duration::from_millis(200);

fn limits() -> Limits {
    Limits { first_wait: SHORT, head_wait: SHORT, idle_wait: SHORT, ..Limits::default() }
}

async fn world(
    limits: Limits,
    handler: impl Fn(&Ctx, &str, &Input) -> Result<Output, Fault> + Send + Sync + 'static,
) -> World {
    World::start(Gate::Signed { keys: Arc::new(OneKey), regions: Vec::new() }, limits, handler).await
}

fn invoke(world: &World) -> Vec<u8> {
    let mut request = world.request("POST", INVOKE, &[]);
    flint_wire::sign(&mut request, b"{}", &credentials(), "us-east-1", "lambda", now()).expect("signs");
    wire_bytes(&request, b"{}")
}

fn answer(body: Body) -> Output {
    let doc = Doc::Map(vec![("ExecutedVersion".into(), Doc::from("$LATEST"))]);
    Output { doc, body: Some(body), status: Some(200) }
}

/// Reads until the server closes, and gives how much came. Fails if it does not.
async fn to_the_end(stream: &mut TcpStream) -> usize {
    let mut total = 0;
    let read = async {
        let mut piece = vec![0; 1 << 16];
        // A reset is an end too.
        while let Ok(n @ 1..) = stream.read(&mut piece).await {
            total += n;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("the server closes");
    total
}

/// A client that takes little before it is asked to.
async fn narrow(world: &World) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("sets");
    socket.connect(world.address.parse().expect("an address")).await.expect("connects")
}

#[tokio::test]
async fn silence_ends_in_every_state() {
    let world = world(limits(), echo).await;
    let begun = [
        ("nothing", &b""[..], false),
        ("a letter", b"G", false),
        ("half a head", b"GET /_flint/health HTTP/1.1\r\nHost: x\r\n", false),
        ("half a preface", b"PRI * HTTP/2.0\r\n", false),
        ("one request", HEALTH, true),
        ("preface and settings", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", true),
    ];
    for (name, bytes, answered) in begun {
        let mut stream = TcpStream::connect(&world.address).await.expect("connects");
        stream.write_all(bytes).await.expect("writes");
        assert_eq!(to_the_end(&mut stream).await > 0, answered, "{name}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_head_that_drips_ends() {
    let world = world(limits(), echo).await;
    let stream = TcpStream::connect(&world.address).await.expect("connects");
    let (mut read, mut write) = stream.into_split();
    write.write_all(b"GET /_flint/health HTTP/1.1\r\n").await.expect("writes");
    let drip = async {
        while write.write_all(b"X: y\r\n").await.is_ok() {
            tokio::time::sleep(SHORT / 10).await;
        }
    };
    let end = async {
        let mut bytes = Vec::new();
        let _ = read.read_to_end(&mut bytes).await;
    };
    tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(drip, end) }).await.expect("the server closes");
    world.stop().await;
}

#[tokio::test]
async fn an_answer_that_nobody_takes_ends() {
    const SIZE: usize = 32 << 20;
    let whole = |_: &Ctx, _: &str, _: &Input| Ok(answer(Body::Whole(Bytes::from(vec![b'x'; SIZE]))));
    let endless = |_: &Ctx, _: &str, _: &Input| {
        let piece = Bytes::from(vec![b'x'; 64 << 10]);
        Ok(answer(Body::Stream(Box::pin(stream::repeat_with(move || Ok(piece.clone())).take(SIZE >> 16)))))
    };
    for world in [world(limits(), whole).await, world(limits(), endless).await] {
        let mut stream = narrow(&world).await;
        stream.write_all(&invoke(&world)).await.expect("writes");
        tokio::time::sleep(SHORT * 10).await;
        assert!(to_the_end(&mut stream).await < SIZE);
        world.stop().await;
    }
}

#[tokio::test]
async fn a_slow_reader_who_does_read_gets_everything() {
    const SIZE: usize = 8 << 20;
    let world = world(limits(), |_, _, _| Ok(answer(Body::Whole(Bytes::from(vec![b'x'; SIZE]))))).await;
    let mut stream = narrow(&world).await;
    stream.write_all(&invoke(&world)).await.expect("writes");
    let mut total = 0;
    let mut piece = vec![0; SIZE / 16];
    while total < SIZE {
        tokio::time::sleep(SHORT / 4).await;
        total += stream.read_exact(&mut piece).await.expect("more comes");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_window_that_never_opens_ends() {
    let world = world(limits(), echo).await;
    let mut stream = TcpStream::connect(&world.address).await.expect("connects");
    // Preface; SETTINGS with a window of nothing; a request for health whose fields are in the static table or literal.
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0".to_vec();
    let mut block = b"\x82\x86\x04\x0e/_flint/health\x01".to_vec();
    block.push(u8::try_from(world.address.len()).expect("short"));
    block.extend_from_slice(world.address.as_bytes());
    bytes.extend_from_slice(&[0, 0, u8::try_from(block.len()).expect("short"), 1, 5, 0, 0, 0, 1]);
    bytes.extend_from_slice(&block);
    stream.write_all(&bytes).await.expect("writes");
    // Pings are answered, and are no reason to stay.
    let (mut read, mut write) = stream.into_split();
    let pings = async {
        while write.write_all(b"\0\0\x08\x06\0\0\0\0\0pingpong").await.is_ok() {
            tokio::time::sleep(SHORT / 10).await;
        }
    };
    let end = async {
        let mut bytes = Vec::new();
        let _ = read.read_to_end(&mut bytes).await;
        bytes
    };
    let both = async { tokio::join!(pings, end) };
    let ((), answer) = tokio::time::timeout(Duration::from_secs(20), both).await.expect("the server closes");
    assert!(!answer.windows(5).any(|w| w == b"ready"), "the answer's body had no room");
    world.stop().await;
}

#[tokio::test]
async fn a_function_may_take_its_time() {
    let world = world(limits(), |_, _, _| {
        let pieces = stream::iter(0..4).then(|n| async move {
            tokio::time::sleep(SHORT * 3).await;
            Ok(Bytes::from(n.to_string()))
        });
        Ok(answer(Body::Stream(Box::pin(pieces))))
    })
    .await;
    let mut stream = TcpStream::connect(&world.address).await.expect("connects");
    stream.write_all(&invoke(&world)).await.expect("writes");
    let reply = read_reply(&mut stream).await;
    assert_eq!(reply.text(), "1\r\n0\r\n1\r\n1\r\n1\r\n2\r\n1\r\n3\r\n0\r\n\r\n");
    world.stop().await;
}

#[tokio::test]
async fn good_calls_find_a_place_among_the_silent() {
    let patient = Duration::from_secs(60);
    let limits = Limits { connections: 4, first_wait: patient, head_wait: patient, idle_wait: patient, ..limits() };
    let world = world(limits, echo).await;
    let mut silent = Vec::new();
    for n in 0..12 {
        let mut stream = TcpStream::connect(&world.address).await.expect("connects");
        stream.write_all(if n % 2 == 0 { b"" } else { b"GET / HT" }).await.expect("writes");
        silent.push(stream);
        let reply = world.call("lambda", "POST", INVOKE, &[], b"{}").await;
        assert_eq!((reply.status, reply.text()), (200, "{}"), "call {n}");
    }
    // The oldest had to go.
    assert_eq!(to_the_end(&mut silent[0]).await, 0);
    // Half a head holds nobody up.
    tokio::time::timeout(Duration::from_secs(10), world.stop()).await.expect("ends at once");
}

#[tokio::test]
async fn a_strangers_large_body_is_not_waited_for() {
    let world = world(Limits::default(), echo).await;
    let mut stranger = credentials();
    stranger.access_key = "AKIAIOSFODNN7STRANGE".into();
    for (field, value) in [("content-length", "1000000"), ("transfer-encoding", "chunked")] {
        let mut request = world.request("POST", INVOKE, &[(field, value)]);
        flint_wire::sign(&mut request, b"{}", &stranger, "us-east-1", "lambda", now()).expect("signs");
        let mut stream = TcpStream::connect(&world.address).await.expect("connects");
        stream.write_all(&wire_bytes(&request, b"")).await.expect("writes");
        let reply = tokio::time::timeout(Duration::from_secs(5), read_reply(&mut stream)).await.expect("at once");
        assert_eq!((reply.status, reply.error().0.as_str()), (403, "UnrecognizedClientException"));
    }
    world.stop().await;
}
