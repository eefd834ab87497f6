//! Two operators, of which one acts. When it goes, the other takes over.

use crate::operator;
use crate::stage::Stage;
use std::time::Instant;

#[tokio::test]
async fn when_the_leading_operator_goes_the_other_takes_over() {
    let stage = Stage::open_alone("leader").await;
    stage.cluster("shop", 1).await;
    stage.topic("shop", "before", 1).await;

    let leader = operator::kill_leader(&stage.client).await;
    let began = Instant::now();
    let next = operator::other_leader(&stage.client, &leader).await;
    println!(
        "  {next} took over from {leader} after {:.1} s",
        began.elapsed().as_secs_f64()
    );

    stage.topic("shop", "after", 1).await;
    operator::installed(&stage.client).await;
    stage.close().await;
}
