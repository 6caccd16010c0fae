// Steps of gradient descent on the CPU, for a batch of problems of the unconstrained feature model.
#pragma once

#include "common/requests.h"

namespace nrc_fast {

void descent(const DescentBatch& batch);

}  // namespace nrc_fast
