//! The operations: one file per resource. Each decides, commits, then acts.

pub(crate) mod invoke_config;
pub(crate) mod mapping;

use flint_model::{FunctionRef, Place};

use crate::core::Core;
use crate::error::Error;

/// The function that a member names, with the `Qualifier` member folded in.
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

/// The ARN of a function, version or alias as it was named, for the authorizer.
pub(crate) fn resource(place: &Place, name: Option<&str>, qualifier: Option<&str>) -> String {
    let Some(Ok(function)) = name.map(|name| function_ref(name, qualifier)) else { return "*".to_owned() };
    let arn = function.name.arn(place);
    function.qualifier.map_or_else(|| arn.to_string(), |qualifier| format!("{arn}:{qualifier}"))
}

/// Refuses a destination that we can't bring anything to. `member` is its path in the request.
pub(crate) fn check_destination(core: &Core, place: &Place, member: &str, text: &str) -> Result<(), Error> {
    let invalid = || Error::InvalidParameter(format!("The provided destination config {member} is invalid: {text}"));
    let arn: flint_model::Arn = text.parse().map_err(|_| invalid())?;
    if arn.service == "lambda" {
        let function: FunctionRef = text.parse().map_err(|_| invalid())?;
        let foreign = function.account.as_deref().is_some_and(|account| account != place.account.as_str())
            || function.region.as_deref().is_some_and(|region| region != place.region.as_str());
        if foreign || core.invoker.describe(place, &function).is_err() {
            return Err(Error::InvalidParameter(format!("The destination ARN {text} is invalid: no such function")));
        }
        return Ok(());
    }
    let Some((target, arn)) = core.target(text) else {
        return Err(Error::NotServed(format!("lambda: {member}={text}")));
    };
    if arn.resource.ends_with(".fifo") {
        let why = format!("The destination ARN {text} is invalid: a standard queue is expected, this one is FIFO");
        return Err(Error::InvalidParameter(why));
    }
    target
        .check(&arn)
        .map_err(|fault| Error::InvalidParameter(format!("The destination ARN {text} is invalid: {}", fault.message)))
}
