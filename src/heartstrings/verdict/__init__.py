"""From a ledger to the five answers, with the numbers they rest on."""
