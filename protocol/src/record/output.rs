//! What the node wants done, in a form that can be compared.

use super::codec::{Damage, Item, Sink, Source, fields, variants};
use crate::engine::{
    EngineCommand, EngineInput, ExampleInput, Optimizer, Targets, TrainCommand, TrainSetup,
    Trainable,
};
use crate::node::{Event, Failure, FinishReason, Found, JobFailure, Output, Rejection, Stage};
use crate::shard::Shard;
use alloc::sync::Arc;

variants! {
    Output {
        0 = Dial { dial, address },
        1 = Send { connection, message },
        2 = Close { connection },
        3 = ReadDiscoveryFile,
        4 = Compute(command),
        5 = Event(event),
        6 = ListInterfaces,
        7 = Broadcast { from, to, payload },
        8 = Listen { datagrams },
        9 = Ask { ask, address, payload },
        10 = Answer { visit, payload },
    }
    EngineCommand {
        0 = Load { call, shard },
        1 = Unload { call, shard },
        2 = Forward { call, shard, request, position, input, sampling },
        3 = Free { call, request },
        4 = Train(command),
    }
    TrainCommand {
        0 = Begin { call, shard, job, setup },
        1 = Forward { call, job, step, input, targets, learn },
        2 = Backward { call, job, step, gradient },
        3 = Save { call, job, iteration },
        4 = End { call, job },
    }
    ExampleInput { 0 = Tokens { tokens, batch }, 1 = Hidden(tensor) }
    Trainable { 0 = Lora { rank, scale, last_layers }, 1 = Full { last_layers }, 2 = Nothing }
    Optimizer { 0 = Sgd, 1 = AdamW { weight_decay } }
    EngineInput { 0 = Text(prompt), 1 = Tokens(tokens), 2 = Hidden(tensor) }
    Event {
        0 = Accepted { request, ring },
        1 = Token { request, index, token, scores },
        2 = Finished { request, reason, tokens },
        3 = Failed { request, failure },
        4 = Recovering { request, reason, epoch, ring },
        5 = Rejected { request, rejection },
        6 = PeerUp { node, address },
        7 = PeerDown { node, address, reason },
        8 = PeerUnreachable { node, address, reason },
        9 = PeerRestarted { node },
        10 = DuplicateNode { node, first, second },
        11 = PeerLeaving { node },
        12 = Drained,
        13 = TopologyChanged,
        14 = ConnectionRefused { remote, node, reason },
        15 = DiscoveryRejected { reason },
        16 = Loading { shard, done, total },
        17 = Loaded { shard, bytes },
        18 = EngineFailed { shard, reason },
        19 = JobReady { job, ring, trainable, iteration },
        20 = ExampleDone { job, step, loss, positions },
        21 = JobSaved { job, iteration, files },
        22 = JobEnded { job },
        23 = JobFailed { job, failure, saved },
        24 = PeerEngine { node, engine },
        25 = BroadcastTrouble { reason },
        26 = PeerMoved { node, from, to, reason },
        27 = LinkSlow { node, address, rtt, before },
        28 = FilesWanted { call, shard },
        29 = Unloaded { shard },
        30 = Part { want, found },
        31 = PartWanted { read, name, from, length },
        32 = StepTimed { request, stage, node, position, positions, wait, compute, write, rtt },
    }
    Found { 0 = Nowhere, 1 = At { node, size, content } }
    JobFailure {
        0 = Busy(most),
        1 = Duplicate(job),
        2 = Layers(layers),
        3 = Setup(reason),
        4 = Memory { needed, left, without },
        5 = Example(reason),
        6 = OutOfTurn { asked, under_way },
        7 = PeerLost { node, reason },
        8 = Stage { node, message },
        9 = Resumed { first, expected, node, got },
        10 = TimedOut { under_way, seconds, ring },
        11 = Stopping,
        12 = Unsupported(reason),
    }
    FinishReason { 0 = Stop, 1 = Length }
    Failure {
        0 = Cancelled,
        1 = PeerLost { node, reason },
        2 = Stage { node, message },
        3 = TimedOut { seconds, ring },
        4 = Memory { reason, needed, left, nodes },
        5 = Unrecoverable { recoveries, reason },
        6 = Stopping,
        7 = Refused { node, message },
    }
    Rejection {
        0 = Busy(most),
        1 = Duplicate(request),
        2 = EmptyPrompt,
        3 = Memory { needed, left, nodes },
        4 = Layers(layers),
        5 = Stopping,
        6 = Pinned(reason),
        7 = Sampling(node),
    }
}

fields! {
    Stage { node, shard }
    Targets { tokens, counted }
    TrainSetup { name, trainable, optimizer, learning_rate, seed, resume }
    Shard { model, start, end, layers }
}

impl Item for Arc<TrainSetup> {
    fn put<S: Sink>(&self, out: &mut S) {
        (**self).put(out);
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Damage> {
        Item::take(from).map(Self::new)
    }
}
