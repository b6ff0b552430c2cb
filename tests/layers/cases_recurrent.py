"""Cases of the recurrent cells and of the layers that run them over sequences."""

from check_layer import case

import fluxion as fx

REFUSED = r"expected input \(\.\.\., 3\), got \(4, 2\)\. Use {0}\(2, 2\) or {0}\(None, 2\)\."
REFUSED_SEQUENCE = r"expected input \(batch, time, 3\), got \(4, 5, 2\)\. Use {0}\(2, 2\) or {0}\(None, 2\)\."

CASES = {
    fx.GRU: [
        case(
            make=lambda: fx.GRU(3, 2),
            inputs=[(4, 5, 3)],
            unsized=lambda: fx.GRU(None, 2),
            wrong=[(4, 5, 2)],
            match=REFUSED_SEQUENCE.format("GRU"),
        )
    ],
    fx.GRUCell: [
        case(
            make=lambda: fx.GRUCell(3, 2),
            inputs=[(4, 3)],
            unsized=lambda: fx.GRUCell(None, 2),
            wrong=[(4, 2)],
            match=REFUSED.format("GRUCell"),
        ),
        case(make=lambda: fx.GRUCell(3, 2, reset_after=False, bias=False), inputs=[(4, 3)]),
    ],
    fx.LSTM: [
        case(
            make=lambda: fx.LSTM(3, 2, num_layers=2, dropout=0.3, return_state=True),
            inputs=[(4, 3, 3)],
            unsized=lambda: fx.LSTM(None, 2, num_layers=2, dropout=0.3, return_state=True),
            wrong=[(4, 5, 2)],
            match=REFUSED_SEQUENCE.format("LSTM"),
        )
    ],
    fx.LSTMCell: [
        case(
            make=lambda: fx.LSTMCell(3, 2),
            inputs=[(4, 3)],
            unsized=lambda: fx.LSTMCell(None, 2),
            wrong=[(4, 2)],
            match=REFUSED.format("LSTMCell"),
        )
    ],
    fx.RNN: [
        case(
            make=lambda: fx.RNN(3, 2, fx.softplus, bias=False),
            inputs=[(4, 5, 3)],
            unsized=lambda: fx.RNN(None, 2, fx.softplus, bias=False),
            wrong=[(4, 5, 2)],
            match=REFUSED_SEQUENCE.format("RNN"),
        )
    ],
    fx.RNNCell: [
        case(
            make=lambda: fx.RNNCell(3, 2, fx.softplus),
            inputs=[(4, 3)],
            unsized=lambda: fx.RNNCell(None, 2, fx.softplus),
            wrong=[(4, 2)],
            match=REFUSED.format("RNNCell"),
        )
    ],
    fx.Recurrence: [
        case(
            make=lambda: fx.Recurrence(fx.LSTMCell(3, 2), return_state=True),
            inputs=[(4, 5, 3)],
            unsized=lambda: fx.Recurrence(fx.LSTMCell(None, 2), return_state=True),
            wrong=[(4,)],
            match=r"expected input \(batch, time, \.\.\.\), or \(time, features\) for one sequence, got \(4,\)",
        )
    ],
}
