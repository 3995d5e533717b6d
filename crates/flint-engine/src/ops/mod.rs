//! The control plane: one file per group of operations. Each decides, commits, then changes the snapshot.

pub(crate) mod alias;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod layers;
pub(crate) mod publish;
pub(crate) mod read;
pub(crate) mod settings;
pub(crate) mod update;

use flint_kit::Ctx;
use flint_model::FunctionRef;

use crate::error::Error;

/// The function that a member names, with the `Qualifier` member folded in.
///
/// Errors: `InvalidParameterValueException` if it names none or if two qualifiers differ.
pub(crate) fn function_ref(name: &str, qualifier: Option<&str>) -> Result<FunctionRef, Error> {
    let invalid = |e: flint_model::function::ParseError| Error::InvalidParameter(e.to_string());
    let mut function: FunctionRef = name.parse().map_err(invalid)?;
    if let Some(text) = qualifier {
        let qualifier = text.parse().map_err(invalid)?;
        if function.qualifier.as_ref().is_some_and(|q| *q != qualifier) {
            let why = "The derived qualifier from the function name does not match the specified qualifier.";
            return Err(Error::InvalidParameter(why.to_owned()));
        }
        function.qualifier = Some(qualifier);
    }
    Ok(function)
}

/// Items on a page (API reference, `ListFunctions`: "Lambda returns up to 50 items per call").
pub(crate) const PAGE: usize = 50;

/// Refuses a change that was made against an older state.
pub(crate) fn check_revision(wanted: Option<&str>, current: &str) -> Result<(), Error> {
    match wanted {
        Some(wanted) if wanted != current => Err(Error::StaleRevision),
        _ => Ok(()),
    }
}

/// A fresh `RevisionId`.
pub(crate) fn revision() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// The ARN that a call is about, for the authorizer: of a version or alias if it names one. `*` if it names none that could exist.
pub(crate) fn resource(ctx: &Ctx, name: Option<&str>, qualifier: Option<&str>) -> String {
    let Some(Ok(function)) = name.map(|name| function_ref(name, qualifier)) else { return "*".to_owned() };
    let arn = function.name.arn(&ctx.place);
    function.qualifier.map_or_else(|| arn.to_string(), |qualifier| format!("{arn}:{qualifier}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, qualifier: Option<&str>, expected: Option<(&str, Option<&str>)>) {
        let found = function_ref(name, qualifier).ok();
        let found = found.as_ref().map(|f| (f.name.as_str(), f.qualifier.as_ref().map(ToString::to_string)));
        assert_eq!(found, expected.map(|(n, q)| (n, q.map(str::to_owned))), "{name} {qualifier:?}");
    }

    #[test]
    fn a_qualifier_may_stand_in_either_place_but_not_differ() {
        check("f", None, Some(("f", None)));
        check("f:$LATEST", None, Some(("f", Some("$LATEST"))));
        check("f", Some("$LATEST"), Some(("f", Some("$LATEST"))));
        check("f:1", Some("1"), Some(("f", Some("1"))));
        check("f:1", Some("2"), None);
        check("a/b", None, None);
    }

    proptest::proptest! {
        #[test]
        fn any_name_and_qualifier_is_taken_or_refused(
            name in "(f|[:$a-z0-9/]|arn:aws:lambda:us-east-1:000000000000:function:){0,5}",
            qualifier in proptest::option::of("([$A-Za-z0-9_-]|\\PC){0,10}"),
        ) {
            if let Ok(function) = function_ref(&name, qualifier.as_deref()) {
                let shown = function.qualifier.map(|q| q.to_string());
                proptest::prop_assert!(qualifier.is_none() || shown.is_some());
            }
            let layers = crate::layers::Layers::default();
            let place = flint_model::Place {
                account: "000000000000".parse().expect("legal"),
                region: "us-east-1".parse().expect("legal"),
            };
            proptest::prop_assert!(layers.by_arn(&place, &name).is_none(), "there is none");
        }
    }
}
