use super::*;

fn extensions(external: &[&str]) -> Extensions {
    Extensions::new(Facts::default(), external.iter().map(|&n| n.to_owned()).collect())
}

fn names(events: &[&str]) -> Vec<String> {
    events.iter().map(|&e| e.to_owned()).collect()
}

async fn is_idle(extensions: &Extensions) -> bool {
    tokio::select! {
        biased;
        idle = extensions.idle() => idle.is_ok(),
        () = std::future::ready(()) => false,
    }
}

#[test]
fn registrations_keep_the_rules() {
    let all = extensions(&["mine"]);
    let register = |name: &str, events: &[&str]| all.register(name, &names(events));
    assert_eq!(register("", &[]), Err(Refusal::MissingName));
    assert_eq!(register("mine", &["SLEEP"]), Err(Refusal::BadEvent));
    assert_eq!(register("inner", &["SHUTDOWN"]), Err(Refusal::NoShutdownForInternal));
    assert!(register("mine", &["INVOKE", "SHUTDOWN"]).is_ok());
    assert_eq!(register("mine", &[]), Err(Refusal::AlreadyRegistered));
    for n in 0..9 {
        assert!(register(&format!("inner{n}"), &["INVOKE"]).is_ok());
    }
    assert_eq!(register("inner10", &[]), Err(Refusal::TooMany));
    let all = extensions(&[]);
    all.close_registration();
    assert_eq!(all.register("late", &[]), Err(Refusal::RegistrationClosed));
}

#[tokio::test]
async fn an_invocation_lasts_until_all_ask_again() {
    let all = extensions(&["outer"]);
    assert!(!is_idle(&all).await, "the external one has not registered");
    let outer = all.register("outer", &names(&["INVOKE", "SHUTDOWN"])).expect("registered");
    let inner = all.register("inner", &names(&["INVOKE"])).expect("registered");
    assert!(!is_idle(&all).await);
    assert_eq!(all.next("nobody").await, Err(Refusal::UnknownIdentifier));

    let ask = async |id: &str| {
        serde_json::from_slice::<serde_json::Value>(&all.next(id).await.expect("an event")).expect("JSON")
    };
    let deadline = Timestamp::from_millis(17);
    let (first, second, ()) = tokio::join!(ask(&outer), ask(&inner), async {
        all.idle().await.expect("both ask");
        all.invoke("id", "arn", Some("Root=1"), deadline);
        assert!(!is_idle(&all).await, "told is busy");
    });
    assert_eq!(first, second);
    assert_eq!(first["tracing"]["value"], "Root=1");
    assert_eq!(
        (&first["eventType"], &first["requestId"], &first["deadlineMs"]),
        (&"INVOKE".into(), &"id".into(), &17.into())
    );

    // One that goes away while it asks does not count as one that waits.
    let (_, _) = tokio::join!(tokio::time::timeout(Duration::from_millis(20), all.next(&inner)), async {});
    assert!(!is_idle(&all).await);

    assert!(all.shut_down(deadline));
    assert!(all.undelivered());
    assert_eq!(ask(&outer).await["shutdownReason"], "spindown");
    assert!(!all.undelivered());
}

#[tokio::test]
async fn a_failure_ends_the_wait() {
    let all = extensions(&["outer"]);
    let outer = all.register("outer", &[]).expect("registered");
    assert_eq!(all.failed("nobody", "Extension.InitError", "x"), Err(Refusal::UnknownIdentifier));
    all.failed(&outer, "Extension.InitError", "Mine.Bad").expect("known");
    let failure = all.idle().await.expect_err("failed");
    assert_eq!(failure.error_type, "Extension.InitError");
    assert!(String::from_utf8_lossy(&failure.document).contains("extension outer failed: Mine.Bad"));
    assert_eq!(all.next(&outer).await, Err(Refusal::WrongState));
}
