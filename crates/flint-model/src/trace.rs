//! The `X-Amzn-Trace-Id` header: how a chain of events stays one chain with no change to anyone's code.
//!
//! ```text
//! Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0;Lineage=1:EVENT:DEPTH,FUNCTION:PASSES,...
//! ```
//!
//! Every invocation gets one (`_X_AMZN_TRACE_ID`); the SDKs inside a function send it back with each call, and queues keep
//! it with a message. `Root` and the id of the chain's first event are the same 128 bits, whoever chose them: a caller's
//! own root is kept. `Lineage` says which event the function is handling, how deep in the chain it is, and how often the
//! chain has passed through which functions (by a hash of their ARNs). It uses only characters that SDKs leave alone
//! (botocore quotes all but letters, digits, `_.-~` and `-=;:+&[]{}"',`). What else a header holds travels on as it is.
//!
//! Reference: X-Ray Developer Guide, "Tracing header"; Lambda Developer Guide, "Use Lambda recursive loop detection to
//! prevent infinite loops" (a chain is stopped after about 16 passes).

use std::fmt::Write as _;
use std::sync::Arc;

use flint_base::EventId;

use crate::lineage::Lineage;

/// Passes of a chain through one function before it is stopped.
pub const PASSES_MAX: u32 = 16;

/// Functions whose passes a header counts. Of more, those with the fewest passes are forgotten first.
const FUNCTIONS_MAX: usize = 32;

/// The longest header that is read or handed on, in bytes.
pub const HEADER_MAX: usize = 1_024;

/// The longest `Parent` and `Sampled` that are kept as such: room enough for theirs, too little to push ours out of a header.
const FIELD_MAX: usize = 32;

/// The form of the `Lineage` field.
const FORM: &str = "1";

/// A header that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The chain's first event, which is the trace id.
    pub root: EventId,
    /// The event that the sender was handling, if a function sent it, and how deep that is.
    handling: Option<(EventId, u32)>,
    /// Hashes of functions and how often the chain passed through each.
    passes: Vec<(u32, u32)>,
    /// `Parent`, where it is somebody else's.
    parent: Option<String>,
    /// `Sampled` as it came.
    sampled: Option<String>,
    /// The other fields, each with a `;` before it.
    others: String,
}

/// What a function is invoked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// The header that it gets.
    pub header: Arc<str>,
    /// How often the chain has passed through it, this time included.
    pub passes: u32,
}

impl Pass {
    /// Whether the chain has to end here, unless the function allows recursion.
    pub fn is_one_too_many(&self) -> bool {
        self.passes > PASSES_MAX
    }
}

/// The step of a chain into a function.
///
/// `header` is what came with the event (untouched since), `lineage` is the event's own place in its chain, `function` the
/// ARN without a qualifier. Asking again, for a retry, gives the same answer.
pub fn next_pass(header: Option<&str>, lineage: &Lineage, function: &str) -> Pass {
    let mut trace = header.and_then(Trace::parse).unwrap_or_else(|| Trace::of(lineage));
    let passes = trace.count(function);
    Pass { header: trace.write(lineage).into(), passes }
}

/// One header for events that go into a function together: the first one's chain, and of each function the most passes
/// that any of them has.
pub fn merged<'a>(headers: impl IntoIterator<Item = Option<&'a str>>) -> Option<Arc<str>> {
    let mut headers = headers.into_iter();
    let text = headers.next()??;
    let mut rest = headers.flatten().filter(|header| *header != text).filter_map(Trace::parse).peekable();
    let (Some(mut trace), true) = (Trace::parse(text), rest.peek().is_some()) else { return Some(text.into()) };
    for other in rest {
        for (function, passes) in other.passes {
            trace.note(function, passes);
        }
    }
    Some(trace.text().into())
}

/// The header of what a function sends while it handles an event with the header `own`; `said` is what the function says.
///
/// Root, event and passes are the running event's own, whatever is said: no function can leave its chain or forget its passes. Who says
/// the same root may name a parent, a sampling decision and other fields, as tracing libraries do.
pub fn bound(own: &str, said: Option<&str>) -> Arc<str> {
    let said = said.filter(|said| *said != own).and_then(Trace::parse);
    let (Some(said), Some(mut trace)) = (said, Trace::parse(own)) else { return own.into() };
    if said.root != trace.root {
        return own.into();
    }
    trace.parent = said.parent.or(trace.parent);
    trace.sampled = said.sampled.or(trace.sampled);
    trace.others = said.others;
    trace.text().into()
}

impl Trace {
    /// Reads a header; `None` if it names no root.
    pub fn parse(header: &str) -> Option<Self> {
        if header.len() > HEADER_MAX {
            return None;
        }
        let mut root = None;
        let mut lineage = None;
        let mut trace = Self {
            root: EventId::from_bytes([0; 16]),
            handling: None,
            passes: Vec::new(),
            parent: None,
            sampled: None,
            others: String::new(),
        };
        for field in header.split(';').map(str::trim).filter(|field| !field.is_empty()) {
            match field.split_once('=') {
                Some(("Root", value)) if root.is_none() => root = Some(read_root(value)?),
                Some(("Parent", value)) if value.len() <= FIELD_MAX => trace.parent = Some(value.to_owned()),
                Some(("Sampled", value)) if value.len() <= FIELD_MAX => trace.sampled = Some(value.to_owned()),
                Some(("Lineage", value)) if lineage.is_none() => lineage = read_lineage(value),
                _ => {
                    trace.others.push(';');
                    trace.others.push_str(field);
                }
            }
        }
        trace.root = root?;
        if let Some((event, depth, passes)) = lineage {
            trace.handling = Some((event, depth));
            trace.passes = passes;
            trace.parent = trace.parent.filter(|parent| *parent != parent_of(&event));
        }
        Some(trace)
    }

    /// The place in the chain of the event that the sender was handling: events that its call brings about are
    /// [`Lineage::child`]ren of it. Without a `Lineage` field it is the chain's root, which then lies outside.
    pub fn lineage(&self) -> Lineage {
        let (event, depth) = self.handling.unwrap_or((self.root, 0));
        Lineage { event, cause: None, root: self.root, depth }
    }

    /// How often the chain has passed through the function so far.
    pub fn passes(&self, function: &str) -> u32 {
        let hash = hash(function);
        self.passes.iter().find(|(f, _)| *f == hash).map_or(0, |(_, passes)| *passes)
    }

    fn of(lineage: &Lineage) -> Self {
        Self {
            root: lineage.root,
            handling: None,
            passes: Vec::new(),
            parent: None,
            sampled: None,
            others: String::new(),
        }
    }

    fn count(&mut self, function: &str) -> u32 {
        let passes = self.passes(function).saturating_add(1);
        self.note(hash(function), passes);
        passes
    }

    /// The function has at least so many passes.
    fn note(&mut self, function: u32, passes: u32) {
        if let Some(found) = self.passes.iter_mut().find(|(f, _)| *f == function) {
            found.1 = found.1.max(passes);
            return;
        }
        if self.passes.len() >= FUNCTIONS_MAX {
            let fewest = self.passes.iter().enumerate().min_by_key(|(_, (_, passes))| *passes).map(|(at, _)| at);
            fewest.map(|at| self.passes.remove(at));
        }
        self.passes.push((function, passes));
    }

    /// The header for the function that handles the event of `lineage`.
    fn write(&self, lineage: &Lineage) -> String {
        let own;
        let parent = match &self.parent {
            Some(parent) => parent,
            None => {
                own = parent_of(&lineage.event);
                &own
            }
        };
        self.render(Some(parent), Some((lineage.event, lineage.depth)))
    }

    fn text(&self) -> String {
        let own = self.handling.map(|(event, _)| parent_of(&event));
        self.render(self.parent.as_deref().or(own.as_deref()), self.handling)
    }

    fn render(&self, parent: Option<&str>, handling: Option<(EventId, u32)>) -> String {
        let mut out = String::with_capacity(160 + self.others.len() + self.passes.len() * 12);
        out.push_str("Root=");
        write_root(&mut out, &self.root);
        if let Some(parent) = parent {
            out.push_str(";Parent=");
            out.push_str(parent);
        }
        out.push_str(";Sampled=");
        out.push_str(self.sampled.as_deref().unwrap_or("0"));
        if let Some((event, depth)) = handling {
            out.push_str(";Lineage=");
            out.push_str(FORM);
            out.push(':');
            hex(&mut out, event.as_bytes());
            // Writing to a text can't fail.
            let _ = write!(out, ":{depth}");
            for (function, passes) in &self.passes {
                let _ = write!(out, ",{function:08x}:{passes}");
            }
        }
        // What others put there is the first to go if it all gets too long.
        if out.len() + self.others.len() <= HEADER_MAX {
            out.push_str(&self.others);
        }
        out
    }
}

/// The trace id of a chain as it is written: `1-5759e988-bd862e3fe1be46a994272793`.
pub fn root_text(root: &EventId) -> String {
    let mut out = String::with_capacity(35);
    write_root(&mut out, root);
    out
}

/// Reads a trace id as [`root_text`] writes it.
pub fn read_root(text: &str) -> Option<EventId> {
    let (first, rest) = text.strip_prefix("1-")?.split_once('-')?;
    if first.len() != 8 || rest.len() != 24 {
        return None;
    }
    let mut bytes = [0; 16];
    unhex(first, &mut bytes[..4])?;
    unhex(rest, &mut bytes[4..])?;
    Some(EventId::from_bytes(bytes))
}

fn write_root(out: &mut String, root: &EventId) {
    let (head, tail) = root.as_bytes().split_at(4);
    out.push_str("1-");
    hex(out, head);
    out.push('-');
    hex(out, tail);
}

/// `FORM:EVENT:DEPTH,HASH:PASSES,...`
type Parts = (EventId, u32, Vec<(u32, u32)>);

fn read_lineage(text: &str) -> Option<Parts> {
    let mut parts = text.split(',');
    let mut head = parts.next()?.split(':');
    let (form, event, depth) = (head.next()?, head.next()?, head.next()?);
    if form != FORM || head.next().is_some() || event.len() != 32 {
        return None;
    }
    let mut bytes = [0; 16];
    unhex(event, &mut bytes)?;
    let mut passes = Vec::new();
    for part in parts.take(FUNCTIONS_MAX) {
        let (function, count) = part.split_once(':')?;
        passes.push((u32::from_str_radix(function, 16).ok()?, count.parse().ok()?));
    }
    Some((EventId::from_bytes(bytes), depth.parse().ok()?, passes))
}

/// A `Parent` of ours: the last half of the event's id.
fn parent_of(event: &EventId) -> String {
    let mut out = String::with_capacity(16);
    hex(&mut out, &event.as_bytes()[8..]);
    out
}

/// FNV-1a, 32 bits: two functions of a chain that share a hash share a count.
fn hash(function: &str) -> u32 {
    function.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

fn hex(out: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// Fills `out` from twice as many digits.
fn unhex(text: &str, out: &mut [u8]) -> Option<()> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    if text.len() != out.len() * 2 {
        return None;
    }
    for (pair, byte) in text.as_bytes().chunks_exact(2).zip(out) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: &str = "arn:aws:lambda:us-east-1:000000000000:function:a";
    const B: &str = "arn:aws:lambda:us-east-1:000000000000:function:b";

    fn id(n: u8) -> EventId {
        EventId::from_bytes([n; 16])
    }

    #[test]
    fn a_chain_starts_with_the_event_that_came_in() {
        let pass = next_pass(None, &Lineage::root(id(1)), A);
        let hash = format!("{:08x}", hash(A));
        let event = "01".repeat(16);
        let wanted = format!(
            "Root=1-01010101-{};Parent={};Sampled=0;Lineage=1:{event}:0,{hash}:1",
            "01".repeat(12),
            "01".repeat(8)
        );
        assert_eq!((&*pass.header, pass.passes), (wanted.as_str(), 1));
        let trace = Trace::parse(&pass.header).expect("ours");
        assert_eq!(trace.lineage(), Lineage { event: id(1), cause: None, root: id(1), depth: 0 });
        assert_eq!((trace.passes(A), trace.passes(B)), (1, 0));
    }

    #[test]
    fn the_seventeenth_pass_is_one_too_many() {
        let (mut header, mut lineage): (Option<Arc<str>>, _) = (None, Lineage::root(id(1)));
        for n in 1..=17 {
            let pass = next_pass(header.as_deref(), &lineage, A);
            assert_eq!((pass.passes, pass.is_one_too_many()), (n, n > 16));
            assert_eq!(pass, next_pass(header.as_deref(), &lineage, A), "a retry is no further pass");
            let other = next_pass(Some(&pass.header), &lineage.child(id(2)), B);
            lineage = Trace::parse(&other.header).expect("ours").lineage().child(id(1));
            assert_eq!(lineage.root, id(1));
            header = Some(other.header);
        }
    }

    #[test]
    fn a_callers_own_header_is_kept() {
        let theirs = "Self=1-67891234-abcdef012345678912345678;Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1;TotalTimeSoFar=9us";
        let trace = Trace::parse(theirs).expect("a root");
        let lineage = trace.lineage().child(id(7));
        let pass = next_pass(Some(theirs), &lineage, A);
        assert!(pass.header.starts_with(
            "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1;Lineage=1:07070707070707070707070707070707:1,"
        ));
        assert!(
            pass.header.ends_with(";Self=1-67891234-abcdef012345678912345678;TotalTimeSoFar=9us"),
            "{}",
            pass.header
        );
        assert_eq!(root_text(&lineage.root), "1-5759e988-bd862e3fe1be46a994272793");
    }

    #[test]
    fn what_is_no_header_starts_a_chain_of_its_own() {
        for odd in ["", "foo", "Root=", "Root=1-5759e988-bd86", "Root=2-5759e988-bd862e3fe1be46a994272793", "Sampled=1"]
        {
            assert_eq!(Trace::parse(odd), None, "{odd}");
            assert!(next_pass(Some(odd), &Lineage::root(id(3)), A).header.starts_with("Root=1-03030303-"));
        }
        let bent = format!("Root=1-{}-{};Lineage=1:x:0", "0".repeat(8), "0".repeat(24));
        assert_eq!(Trace::parse(&bent).map(|t| t.handling), Some(None));
        assert_eq!(Trace::parse(&format!("{bent};x={}", "y".repeat(HEADER_MAX))), None);
    }

    #[test]
    fn together_the_most_passes_count() {
        let one = next_pass(None, &Lineage::root(id(1)), A).header;
        let two = next_pass(None, &Lineage::root(id(2)), A).header;
        let two =
            next_pass(Some(&next_pass(Some(&two), &Lineage::root(id(2)), B).header), &Lineage::root(id(2)), A).header;
        let both = merged([Some(&*one), Some(&*two)]).expect("a header");
        let trace = Trace::parse(&both).expect("ours");
        assert_eq!((trace.root, trace.passes(A), trace.passes(B)), (id(1), 2, 1));
        assert_eq!(merged([Some(&*one), None, Some(&*one)]), Some(one));
        assert_eq!(merged([None, Some(&*two)]), None);
    }

    #[test]
    fn a_function_stays_in_its_chain() {
        let first = next_pass(None, &Lineage::root(id(1)), A).header;
        let own = next_pass(Some(&first), &Lineage::root(id(1)).child(id(2)), B).header;
        let root = root_text(&id(1));
        let forged = format!("Root={root};Lineage=1:{}:0", "09".repeat(16));
        for said in
            [None, Some(&*own), Some("nonsense"), Some("Root=1-5759e988-bd862e3fe1be46a994272793"), Some(&forged)]
        {
            let trace = Trace::parse(&bound(&own, said)).expect("ours");
            assert_eq!((trace.root, trace.lineage().event, trace.lineage().depth), (id(1), id(2), 1), "{said:?}");
            assert_eq!((trace.passes(A), trace.passes(B)), (1, 1), "{said:?}");
        }
        let crowd: String = (0..32).map(|n| format!(",{n:08x}:99")).collect();
        let crowd = format!("Root={root};Lineage=1:{}:0{crowd}", "09".repeat(16));
        assert_eq!(bound(&own, Some(&crowd)), own, "made up passes push none out");
        let segment = format!("Root={root};Parent=53995c3f42cd8ad8;Sampled=1;Self=x");
        let trace = Trace::parse(&bound(&own, Some(&segment))).expect("ours");
        assert_eq!((trace.parent.as_deref(), trace.sampled.as_deref()), (Some("53995c3f42cd8ad8"), Some("1")));
        assert_eq!((trace.others.as_str(), trace.passes(A)), (";Self=x", 1));
    }

    proptest! {
        #[test]
        fn nothing_that_is_said_leaves_the_chain(parent in "[ -:<-~]{0,900}", others in "[ -~]{0,900}", root in any::<bool>()) {
            let own = next_pass(None, &Lineage::root(id(1)), A).header;
            let root = if root { root_text(&id(1)) } else { root_text(&id(2)) };
            let said = format!("Root={root};Parent={parent};Sampled={parent};{others}");
            let header = bound(&own, Some(&said));
            prop_assert!(header.len() <= HEADER_MAX);
            // And once more through a function, with what the header says by then.
            let next = next_pass(Some(&header), &Lineage::root(id(1)).child(id(3)), A);
            prop_assert_eq!(next.passes, 2);
            prop_assert_eq!(Trace::parse(&next.header).map(|t| (t.root, t.passes(A))), Some((id(1), 2)));
        }

        #[test]
        fn what_is_written_is_legal_and_read_back(
            root in any::<[u8; 16]>(), event in any::<[u8; 16]>(), depth in any::<u32>(), functions in 0..80usize,
        ) {
            let lineage = Lineage { event: EventId::from_bytes(event), cause: None, root: EventId::from_bytes(root), depth };
            let mut header = next_pass(None, &lineage, A).header;
            for n in 0..functions {
                header = next_pass(Some(&header), &lineage, &format!("{A}{n}")).header;
                header = next_pass(Some(&header), &lineage, A).header;
            }
            let trace = Trace::parse(&header).expect("ours");
            prop_assert_eq!(trace.lineage(), lineage);
            prop_assert_eq!(trace.passes(A), 1 + functions as u32);
            prop_assert!(header.len() <= HEADER_MAX);
            // What botocore's quote leaves alone.
            let kept = |c: char| c.is_ascii_alphanumeric() || "_.-~=;:+&[]{}\"',".contains(c);
            let all_kept = header.chars().all(kept);
            prop_assert!(all_kept);
        }

        #[test]
        fn any_text_is_a_header_or_not(text in "(Root=1-[0-9a-f]{8}-[0-9a-f]{24};)?[A-Za-z=:;,0-9-]{0,60}", odd in any::<String>()) {
            for text in [text, odd] {
                let pass = next_pass(Some(&text), &Lineage::root(id(1)), A);
                prop_assert!(Trace::parse(&pass.header).is_some());
            }
        }
    }
}
