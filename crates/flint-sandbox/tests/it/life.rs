//! How sandboxes end, are stopped and limited.

use std::sync::Arc;

use flint_sandbox::How;

use crate::{World, launch, run, tests};

tests! {
    a_missing_program_is_named,
}

async fn a_missing_program_is_named(world: Arc<World>) {
    let (exit, _, _) = run(&world, launch(world.root, &["/nothing"])).await;
    let How::SetupFailed { stage, errno } = exit.how else { panic!("{exit:?}") };
    assert_eq!((stage, errno), (flint_sandbox::Stage::Exec, 2));
}
