use flint_kit::vault::Unopened;
use flint_store::MemoryStore;

use super::*;

/// A vault that shows what it was asked to bind: `key|owner|place|plain`, with the plain text's bytes turned.
#[derive(Debug)]
struct Glass;

impl Vault for Glass {
    fn data_key(&self, owner: &str) -> Vec<u8> {
        format!("key of {owner}").into_bytes()
    }

    fn seal(&self, data_key: &[u8], owner: &str, place: &str, plain: &[u8]) -> Result<Vec<u8>, Unopened> {
        if data_key != self.data_key(owner) {
            return Err(Unopened);
        }
        let mut sealed = format!("{owner}|{place}|").into_bytes();
        sealed.extend(plain.iter().map(|b| !b));
        Ok(sealed)
    }

    fn open(&self, data_key: &[u8], owner: &str, place: &str, sealed: &[u8]) -> Result<Vec<u8>, Unopened> {
        let start = self.seal(data_key, owner, place, b"")?;
        Ok(sealed.strip_prefix(&start[..]).ok_or(Unopened)?.iter().map(|b| !b).collect())
    }
}

fn function(name: &str, version: Option<u64>) -> Function {
    Function {
        place: Place { account: "000000000000".parse().expect("legal"), region: "us-east-1".parse().expect("legal") },
        name: name.parse().expect("legal"),
        version,
        config: Config {
            runtime: "python3.11".into(),
            handler: "app.handler".into(),
            role: "arn:aws:iam::000000000000:role/r".into(),
            description: String::new(),
            timeout_s: 3,
            memory_mb: 128,
            ephemeral_mb: 512,
            variables: Variables::Known([("A".to_owned(), "hush".to_owned())].into()),
            log_group: None,
            logging: Logging::default(),
            layers: vec![LayerUse { arn: "a".into(), package: Package { sha256: "11".repeat(32), size: 1 } }],
            dead_letter: Some("arn:aws:sqs:us-east-1:000000000000:dead".into()),
        },
        package: Package { sha256: "00".repeat(32), size: 7 },
        modified: Timestamp::from_millis(5),
        revision: "r".into(),
    }
}

fn head(function: &Function) -> Head {
    let mut head = Head {
        incarnation: "i".into(),
        tags: BTreeMap::new(),
        reserved: Some(3),
        recursion_allowed: true,
        next_version: 3,
        data_key: Vec::new(),
    };
    head.data_key = Glass.data_key(&variables::owner(&function.arn(), &head));
    head
}

/// A function with one version, as it is stored.
fn put(store: &MemoryStore, name: &str) -> (Function, Function) {
    let (latest, one) = (function(name, None), function(name, Some(1)));
    let batch = insert_function(Batch::new(), &Glass, &head(&latest), &latest).expect("sealed");
    store.commit(put_version(batch, &Glass, &head(&latest), &one).expect("sealed")).wait().expect("commits");
    (latest, one)
}

fn rows(store: &MemoryStore, keyspace: Keyspace) -> Vec<Row> {
    store.scan(keyspace, &KeyRange::all(), usize::MAX, flint_store::Direction::Forward).expect("scans")
}

fn put_row(store: &MemoryStore, keyspace: Keyspace, key: &Key, value: impl Into<Bytes>) {
    store.commit(Batch::new().put(keyspace, key.clone(), value.into())).wait().expect("commits");
}

#[test]
fn a_function_comes_back_with_its_own_versions_and_aliases() {
    let store = MemoryStore::default();
    let alias = Alias {
        name: "live".into(),
        version: Some(1),
        weights: [(2, 0.25)].into(),
        description: "d".into(),
        revision: "r".into(),
    };
    let (latest, _) = put(&store, "f");
    // A name that begins like another must not take its versions.
    put(&store, "f-2");
    store.commit(put_alias(Batch::new(), &latest.place, &latest.name, &alias)).wait().expect("commits");
    let all = load(&store, &Glass).expect("loads");
    assert_eq!(all.len(), 2);
    let f = all.iter().find(|stored| stored.latest.name == latest.name).expect("there");
    assert_eq!(format!("{:?}", f.latest), format!("{latest:?}"));
    assert_eq!(f.latest.config, latest.config);
    assert_eq!(f.versions.len(), 1);
    assert_eq!(f.versions[0].config, latest.config);
    assert_eq!(f.aliases, [alias]);
    assert_eq!(f.head.reserved, Some(3));
    assert!(f.head.recursion_allowed);
    assert!(!f.plain);

    store.commit(delete_function(Batch::new(), &latest.place, &latest.name)).wait().expect("commits");
    let all = load(&store, &Glass).expect("loads");
    assert_eq!((all.len(), all[0].versions.len()), (1, 1));
}

#[test]
fn variables_are_in_no_record_and_no_debug_print() {
    let store = MemoryStore::default();
    let (latest, _) = put(&store, "f");
    for row in rows(&store, FUNCTIONS).iter().chain(&rows(&store, VERSIONS)) {
        assert_eq!(row.value[0], 2);
        assert!(!row.value.windows(4).any(|w| w == b"hush"), "{row:?}");
    }
    assert!(!format!("{latest:?} {:?}", latest.configuration()).contains("hush"));
}

#[test]
fn what_belongs_to_another_function_or_version_is_refused() {
    let store = MemoryStore::default();
    put(&store, "f");
    put(&store, "g");
    let functions = rows(&store, FUNCTIONS);
    let [f, g] = &functions[..] else { panic!("two functions") };

    // The whole record: it says whose it is.
    put_row(&store, FUNCTIONS, &f.key, g.value.clone());
    assert!(matches!(load(&store, &Glass), Err(Error::Record { .. })));

    // What is sealed in it, with or without its data key.
    let text = |row: &Row| String::from_utf8(row.value[1..].to_vec()).expect("JSON");
    let (mut own, foreign): (serde_json::Value, serde_json::Value) =
        (serde_json::from_str(&text(f)).expect("JSON"), serde_json::from_str(&text(g)).expect("JSON"));
    own["latest"]["sealed"] = foreign["latest"]["sealed"].clone();
    for with_key in [false, true] {
        if with_key {
            own["data_key"] = foreign["data_key"].clone();
        }
        put_row(&store, FUNCTIONS, &f.key, record::encode(LAYOUT, &own));
        let all = load(&store, &Glass).expect("loads");
        let latest = &all[0].latest;
        assert_eq!(latest.config.variables.known(), None, "never another one's");
        let shown = latest.configuration().environment.expect("shown");
        assert_eq!((shown.variables, shown.error.expect("told").error_code), (None, "KMSInvalidStateException"));
        // It stays what it is over a change of something else, and no version can be made of it.
        let again = put_function(Batch::new(), &Glass, &all[0].head, latest).expect("kept");
        store.commit(again).wait().expect("commits");
        assert_eq!(load(&store, &Glass).expect("loads")[0].latest.config, latest.config);
        let version = Function { version: Some(9), ..latest.clone() };
        assert!(matches!(put_version(Batch::new(), &Glass, &all[0].head, &version), Err(Error::Sealed(_))));
    }
    // Its own version is sealed with the key that was replaced.
    assert_eq!(load(&store, &Glass).expect("loads")[0].versions[0].config.variables.known(), None);
}

#[test]
fn what_an_earlier_release_stored_is_read_and_sealed_by_the_next_write() {
    // As release 0.1 wrote it, byte for byte.
    let version = |number: &str| {
        format!(
            r#"{{"place":{{"account":"000000000000","region":"us-east-1"}},"name":"f","version":{number},"runtime":"python3.11","handler":"app.handler","role":"arn:aws:iam::000000000000:role/r","description":"","timeout_s":3,"memory_mb":128,"ephemeral_mb":512,"variables":{{"A":"hush"}},"log_group":null,"log_json":false,"application_log_level":null,"system_log_level":null,"layers":[],"code_sha256":"{}","code_size":7,"modified_ms":5,"revision":"r"}}"#,
            "00".repeat(32)
        )
    };
    let store = MemoryStore::default();
    let f = function("f", None);
    let record = format!(
        "\u{1}{{\"incarnation\":\"i\",\"tags\":{{}},\"reserved\":null,\"next_version\":2,\"latest\":{}}}",
        version("null")
    );
    put_row(&store, FUNCTIONS, &key(&f.place, &f.name), record);
    put_row(&store, VERSIONS, &key(&f.place, &f.name).u64(1), format!("\u{1}{}", version("1")));
    let all = load(&store, &Glass).expect("loads");
    let one = &all[0];
    assert!(one.plain);
    for function in [&one.latest, &one.versions[0]] {
        assert_eq!(function.config.variables.known().expect("read")["A"], "hush");
    }
    let batch = put_function(Batch::new(), &Glass, &one.head, &one.latest).expect("sealed");
    store.commit(put_version(batch, &Glass, &one.head, &one.versions[0]).expect("sealed")).wait().expect("commits");
    for row in rows(&store, FUNCTIONS).iter().chain(&rows(&store, VERSIONS)) {
        assert!(row.value[0] == 2 && !row.value.windows(4).any(|w| w == b"hush"), "{row:?}");
    }
    let again = load(&store, &Glass).expect("loads");
    assert_eq!(again[0].versions[0].config.variables.known().expect("opens")["A"], "hush");
    assert!(!again[0].plain);
}
