/** The words of a report and what they mean, as markup. */
export const terms: readonly (readonly [term: string, text: string])[] = [
  ["call", "One batch of tokens that went through the router: one call of <code>RouterStats.record</code>."],
  ["step", "Consecutive calls that are shown as one. A step is one call until there are too many of them to show."],
  ["dtype", "What the layer computes in, and how its experts are stored if that is another format."],
  [
    "top-k",
    "Choices per token. Where experts choose tokens instead, every token has all experts as choices, and those that did not take it count as dropped.",
  ],
  ["unused", "Experts that got no token in all calls together."],
  ["dropped", "Choices without an expert, because its capacity was used up or because it did not take the token."],
  ["load", "An expert’s tokens divided by the mean over the experts. In a balanced layer all loads are 1."],
  [
    "maximum violation",
    "The load of the fullest expert, minus 1: 0 if balanced, 1 if the fullest expert has twice the mean. <b>All calls together</b> counts the tokens of the whole run first; <b>of a step</b> counts those of that step alone. They are different numbers: an expert that is full in one step and empty in the next is balanced over both. So that of all calls together is at most the mean of the steps (weighted by their choices), and often far below it. Speed depends on that of the steps, unused experts show in that of all calls.",
  ],
  [
    "mean entropy",
    "The entropy of the softmax over the router’s logits in nats, averaged over the tokens: 0 if the router is certain, ln E if all E experts are alike to it.",
  ],
];
