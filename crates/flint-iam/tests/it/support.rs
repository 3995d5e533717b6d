//! A switchboard with IAM and STS, and callers.

use std::sync::Arc;

use flint_base::{RequestId, Timestamp};
use flint_iam::{KeyRing, OwnerAuthorizer, PolicyAuthorizer, Sessions};
use flint_kit::{Authorizer, Ctx, Doc, Fault, Input, Principal, Switchboard};
use flint_model::{AccountId, Place};
use flint_store::{MemoryStore, Store};

pub const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;
pub const GRANT: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}]}"#;

pub struct World {
    board: Switchboard,
    pub sessions: Sessions,
}

pub fn account(digit: char) -> AccountId {
    String::from(digit).repeat(12).parse().expect("twelve digits")
}

pub fn root() -> Principal {
    Principal::Root { account: account('1'), access_key: "AKIAEXAMPLE".to_owned() }
}

pub fn map(members: &[(&'static str, &str)]) -> Doc {
    Doc::Map(members.iter().map(|(name, value)| ((*name).into(), Doc::from(*value))).collect())
}

impl World {
    /// Nobody looks at policies.
    pub fn new() -> Self {
        Self::judged_by(|_| Arc::new(OwnerAuthorizer))
    }

    /// Policies are looked at.
    pub fn with_policies() -> Self {
        Self::judged_by(|store| Arc::new(PolicyAuthorizer::new(store)))
    }

    fn judged_by(authorizer: impl Fn(Arc<dyn Store>) -> Arc<dyn Authorizer>) -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let authorizer = authorizer(store.clone());
        let sessions = Sessions::new(&KeyRing::default());
        let services = vec![flint_iam::iam::service(store.clone()), flint_iam::sts::service(store, sessions.clone())];
        Self { board: Switchboard::new(authorizer, services), sessions }
    }

    pub async fn call_as(&self, who: Principal, service: &str, operation: &str, doc: Doc) -> Result<Doc, Fault> {
        let ctx = Ctx {
            request_id: RequestId::random(),
            place: Place { account: account('1'), region: "us-east-1".parse().expect("a region") },
            principal: who,
            received: Timestamp::from_millis(1_795_251_600_500),
            base_url: "http://127.0.0.1:1".into(),
            lineage: None,
            trace: None,
        };
        self.board.call(&ctx, service, operation, Input::from_doc(doc)).await.map(|output| output.doc)
    }

    pub async fn iam(&self, operation: &str, members: &[(&'static str, &str)]) -> Result<Doc, Fault> {
        self.call_as(root(), "iam", operation, map(members)).await
    }

    pub async fn sts(&self, operation: &str, members: &[(&'static str, &str)]) -> Result<Doc, Fault> {
        self.call_as(root(), "sts", operation, map(members)).await
    }

    pub async fn role(&self, name: &str) -> Doc {
        let members = [("RoleName", name), ("AssumeRolePolicyDocument", TRUST)];
        self.iam("CreateRole", &members).await.expect("makes a role")
    }
}

pub fn refusal(result: Result<Doc, Fault>) -> (u16, String, String) {
    let fault = result.expect_err("refused");
    (fault.status, fault.code.into_owned(), fault.message)
}

pub fn names(doc: &Doc, list: &str, member: &str) -> Vec<String> {
    let Some(Doc::List(items)) = doc.get(list) else { panic!("no {list} in {doc:?}") };
    let name = |item: &Doc| item.text().or(item.text_of(member)).map(str::to_owned);
    items.iter().filter_map(name).collect()
}
