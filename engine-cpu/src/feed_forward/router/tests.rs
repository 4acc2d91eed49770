use super::{Route, choose};
use crate::kernels::Kernels;
use exo_models::{Experts, Scoring};

const PLAIN: Experts = Experts {
    count: 6,
    active: 2,
    intermediate: 1,
    shared_intermediate: 0,
    scoring: Scoring::Softmax,
    choice_bias: false,
    groups: 1,
    active_groups: 1,
    group_by_two: false,
    normalise: false,
    scale: 1.0,
};

fn chosen(experts: &Experts, bias: Option<&[f32]>, logits: &[f32]) -> Vec<(usize, f32)> {
    let (mut order, mut routes) = (Vec::new(), Vec::new());
    let mut logits = logits.to_vec();
    let row = (7, &mut logits[..]);
    choose(
        &Kernels::SCALAR,
        experts,
        bias,
        row,
        &mut order,
        &mut routes,
    );
    assert!(routes.iter().all(|Route { row, .. }| *row == 7));
    routes
        .iter()
        .map(|route| (route.expert, route.weight))
        .collect()
}

#[track_caller]
fn agree(got: Vec<(usize, f32)>, expected: &[(usize, f64)]) {
    let experts = |list: &[(usize, f64)]| list.iter().map(|route| route.0).collect::<Vec<_>>();
    let got: Vec<_> = got.iter().map(|route| (route.0, route.1.into())).collect();
    assert_eq!(experts(&got), experts(expected));
    for (got, expected) in got.iter().zip(expected) {
        assert!((got.1 - expected.1).abs() < 1e-6, "{got:?} {expected:?}");
    }
}

#[test]
fn the_best_scores_win_and_weigh() {
    let logits = [0.5, 2.0, -1.0, 1.0, 2.0, 0.0];
    let sum: f64 = logits.iter().map(|x| f64::from(*x).exp()).sum();
    let share = |logit: f64| logit.exp() / sum;
    // Of two equals the first.
    agree(
        chosen(&PLAIN, None, &logits),
        &[(1, share(2.0)), (4, share(2.0))],
    );
    let three = Experts {
        active: 3,
        normalise: true,
        scale: 2.5,
        ..PLAIN
    };
    let part = share(2.0) * 2.0 + share(1.0);
    agree(
        chosen(&three, None, &logits),
        &[
            (1, 2.5 * share(2.0) / part),
            (4, 2.5 * share(2.0) / part),
            (3, 2.5 * share(1.0) / part),
        ],
    );
}

#[test]
fn a_bias_chooses_but_does_not_weigh() {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let experts = Experts {
        scoring: Scoring::Sigmoid,
        choice_bias: true,
        ..PLAIN
    };
    let bias = [0.0, 0.0, 1.0, 0.0, 0.0, 0.0];
    agree(
        chosen(&experts, Some(&bias), &[0.5, 2.0, -1.0, 1.0, 0.0, 0.0]),
        &[(2, sigmoid(-1.0)), (1, sigmoid(2.0))],
    );
}

#[test]
fn only_the_best_groups_are_chosen_from() {
    // The single best expert is in group 1, the best two together are in group 2.
    let logits = [0.0, 0.1, 3.0, -5.0, 2.0, 1.9];
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let by_one = Experts {
        scoring: Scoring::Sigmoid,
        groups: 3,
        active_groups: 1,
        ..PLAIN
    };
    agree(
        chosen(&by_one, None, &logits),
        &[(2, sigmoid(3.0)), (3, sigmoid(-5.0))],
    );
    let by_two = Experts {
        group_by_two: true,
        ..by_one
    };
    agree(
        chosen(&by_two, None, &logits),
        &[(4, sigmoid(2.0)), (5, sigmoid(1.9))],
    );
}

#[test]
fn what_is_no_number_does_no_harm() {
    let logits = [f32::NAN, 1.0, f32::INFINITY, f32::NEG_INFINITY, 0.0, 2.0];
    assert_eq!(chosen(&PLAIN, None, &logits).len(), 2);
    let sigmoid = Experts {
        scoring: Scoring::Sigmoid,
        groups: 2,
        active_groups: 1,
        ..PLAIN
    };
    assert_eq!(chosen(&sigmoid, None, &logits).len(), 2);
}
