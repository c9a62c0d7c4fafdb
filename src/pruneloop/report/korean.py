"""The phrases of pages in Korean, by the English ones; placeholders are the same."""

KOREAN = {
    # Every page.
    "Made by pruneloop from the records in this folder; %(command)s makes it again.": (
        "이 폴더의 기록으로 pruneloop가 만든 페이지입니다. %(command)s로 다시 만들 수 있습니다."
    ),
    "Accuracy against sparsity": "희소도에 따른 정확도",
    "accuracy": "정확도",
    "model sparsity": "모델 희소도",
    "round": "라운드",
    "rounds": "라운드 수",
    "sparsity": "희소도",
    "test accuracy": "테스트 정확도",
    "validation accuracy": "검증 정확도",
    # A run: the answer.
    "How sparse can %(model)s be?": "%(model)s: 얼마나 희소하게 만들 수 있나",
    "The exported checkpoint is that of round %(round)s, %(sparsity)s sparse.": (
        "내보낸 체크포인트는 라운드 %(round)s, 희소도 %(sparsity)s입니다."
    ),
    "Fine-tuned on %(data)s, then pruned and fine-tuned again in one round.": (
        "%(data)s(으)로 파인튜닝한 뒤, 한 라운드 동안 프루닝하고 다시 파인튜닝했습니다."
    ),
    "Fine-tuned on %(data)s, then pruned and fine-tuned again in %(rounds)s rounds.": (
        "%(data)s(으)로 파인튜닝한 뒤, %(rounds)s라운드 동안 프루닝과 파인튜닝을 번갈아 했습니다."
    ),
    "Not finished: %(done)s of %(planned)s rounds are done.": (
        "아직 끝나지 않았습니다: %(planned)s라운드 중 %(done)s라운드를 마쳤습니다."
    ),
    "How much validation accuracy may be lost?": "검증 정확도를 얼마까지 잃어도 되나요?",
    "%(points)s pt": "%(points)s%%p",
    "For at most %(points)s points, %(share)s of the prunable weights can go, in round "
    "%(round)s.": (
        "%(points)s%%p 이내의 손실로 프루닝 대상 가중치의 %(share)s를 없앨 수 있습니다(라운드 "
        "%(round)s)."
    ),
    "Its checkpoint is %(place)s.": "체크포인트는 %(place)s에 있습니다.",
    "Its checkpoint was not kept: run with %(key)s, which keeps it, or with keep_rounds=true.": (
        "이 라운드의 체크포인트는 남아 있지 않습니다. %(key)s(이 라운드를 남김)나 "
        "keep_rounds=true로 "
        "실행하세요."
    ),
    "No round of this run loses at most %(points)s points: these are the dense model's figures.": (
        "손실이 %(points)s%%p 이내인 라운드가 없습니다. 아래는 원본(dense) 모델의 수치입니다."
    ),
    "of the prunable weights are zero": "프루닝 대상 가중치 중 0인 비율",
    "of the whole model is zero": "모델 전체에서 0인 비율",
    "validation accuracy (dense %(dense)s)": "검증 정확도(원본 %(dense)s)",
    "test accuracy (95%% interval %(low)s to %(high)s; dense %(dense)s)": (
        "테스트 정확도(95%% 구간 %(low)s~%(high)s, 원본 %(dense)s)"
    ),
    "The most frequent label alone has test accuracy %(majority)s. Validation rows choose; the "
    "test "
    "rows are measured and decide nothing.": (
        "가장 흔한 라벨만 답하면 테스트 정확도는 %(majority)s입니다. 선택은 검증 데이터로만 하고, "
        "테스트 "
        "데이터는 재기만 합니다."
    ),
    # A run: the curve and the rounds.
    "Accuracy over the weights that are kept": "남은 가중치에 따른 정확도",
    "Point at a mark, tap it, or reach it with the tabulator key, for its values. The band is the "
    "95%% interval of validation; the ring is the round of the answer above.": (
        "점을 가리키거나 누르거나 Tab 키로 옮겨 가면 값이 보입니다. 띠는 검증 정확도의 95%% "
        "구간이고, "
        "고리는 위의 답에 해당하는 라운드입니다."
    ),
    "The grey line is the same plan with weights drawn at random: at %(sparsity)s it has "
    "%(validation)s on validation, %(test)s on test.": (
        "회색 선은 같은 계획에서 가중치를 무작위로 고른 것입니다. 희소도 %(sparsity)s에서 검증 "
        "%(validation)s, 테스트 %(test)s입니다."
    ),
    "Rounds": "라운드",
    "shock accuracy": "프루닝 직후 정확도",
    "(undone)": "(되돌림)",
    "Accuracy is that of validation, with the points against dense; shock accuracy is measured "
    "right "
    "after the prune, before fine-tuning.": (
        "정확도는 검증 데이터의 값이고 괄호는 원본과의 차이(%%p)입니다. 프루닝 직후 정확도는 "
        "파인튜닝 "
        "전에 잽니다."
    ),
    "The rest of the record": "나머지 기록",
    "amount": "비율(amount)",
    "macro-F1": "매크로 F1",
    "test macro-F1": "테스트 매크로 F1",
    "loss": "손실",
    "training loss": "학습 손실",
    "steps": "스텝",
    "seconds": "초",
    "prunable weights that are kept (%)": "남은 프루닝 대상 가중치(%)",
    "round {round}: {sparsity:.2%} sparse, {label} {value:.4f}": (
        "라운드 {round}: 희소도 {sparsity:.2%}, {label} {value:.4f}"
    ),
    "random weights": "무작위 가중치",
    "right after the prune": "프루닝 직후",
    "test": "테스트",
    "validation": "검증",
    "{points:g} pt lost": "{points:g}%p 손실",
    # A run: what broke.
    "What broke": "무엇이 달라졌나",
    "On the test rows, pruning turned %(broken)s right predictions wrong and %(mended)s wrong "
    "ones "
    "right; %(other)s went from one wrong label to another.": (
        "테스트 데이터에서 프루닝한 뒤 맞던 예측 %(broken)s건이 틀리게, 틀리던 예측 "
        "%(mended)s건이 맞게 "
        "되었고, %(other)s건은 다른 오답으로 바뀌었습니다."
    ),
    "Scores of every label on the test rows, dense → pruned, those that lost most first": (
        "테스트 데이터의 라벨별 점수, 원본 → 프루닝(많이 잃은 라벨부터)"
    ),
    "label": "라벨",
    "rows": "행",
    "F1": "F1",
    "change": "변화(%%p)",
    "precision": "정밀도",
    "recall": "재현율",
    "Rows more or fewer than before, by label (down) and what it is read as (across); blue is for "
    "the better, orange for the worse": (
        "라벨(세로)과 예측(가로)별 행 수의 증감. 파랑은 나아진 것, 주황은 나빠진 것"
    ),
    "%(label)s read as %(other)s: %(before)s → %(after)s": (
        "%(label)s → %(other)s(으)로 예측: %(before)s → %(after)s"
    ),
    "Both confusion matrices": "두 혼동 행렬",
    "dense": "원본(dense)",
    "pruned": "프루닝",
    "The confusion matrices of so many labels do not fit on a page; every row is in %(file)s.": (
        "라벨이 많아 혼동 행렬을 싣지 않았습니다. 모든 행은 %(file)s에 있습니다."
    ),
    "Right before, wrong now": "맞았다가 틀리게 된 것",
    "Wrong before, right now": "틀렸다가 맞게 된 것",
    "Wrong before and now": "전에도 지금도 틀린 것",
    "(the %(shown)s surest of %(count)s)": "(%(count)s건 중 확신이 큰 %(shown)s건)",
    "text": "문장",
    "second text": "둘째 문장",
    "dense → pruned": "원본 → 프루닝",
    "Every row is in %(file)s, with both models' probabilities.": (
        "모든 행은 두 모델의 확률과 함께 %(file)s에 있습니다."
    ),
    # A run: where, what for, how.
    "Where weights are kept": "가중치가 남은 곳(히트맵)",
    "Weights that are kept of every matrix, by layer and kind, in %%": (
        "레이어와 종류별로 행렬마다 남은 가중치(%%)"
    ),
    "layer": "레이어",
    "The same by round and kind": "라운드와 종류별로 보기",
    "weights": "가중치",
    "What it is for whoever serves it": "서빙할 때의 의미",
    "Zeros alone make neither the dense file smaller nor the dense kernels faster: they are "
    "stored "
    "and multiplied like other numbers.": (
        "0이 많다고 파일이 작아지거나 연산이 빨라지지는 않습니다. 0도 다른 수처럼 저장되고 "
        "곱해집니다."
    ),
    "What was made of the checkpoint for serving, measured on this machine:": (
        "서빙을 위해 체크포인트로 만든 것을 이 컴퓨터에서 잰 결과입니다."
    ),
    "%(command)s writes it as int8, without what whole rows and columns of zeros have made "
    "superfluous, and measures what that gains.": (
        "%(command)s는 행과 열 전체가 0이어서 필요 없어진 것을 빼고 int8로 저장한 뒤 이득을 잽니다."
    ),
    "file": "파일",
    "size": "크기",
    "all weights as float32, zeros or not": "모든 가중치를 float32로(0 포함)",
    "as a bitmask and the values left (computed; pruneloop deploy --sparse-file writes it)": (
        "비트마스크와 남은 값만(계산값, pruneloop deploy --sparse-file이 저장)"
    ),
    "What was run": "실행한 것",
    "model": "모델",
    "%(model)s: %(parameters)s parameters, %(prunable)s of them prunable": (
        "%(model)s: 파라미터 %(parameters)s개, 그중 프루닝 대상 %(prunable)s개"
    ),
    "data": "데이터",
    "labels": "라벨",
    "tokens": "토큰",
    "at most %(longest)s a row, %(cut)s rows truncated, %(unknown)s unknown": (
        "행마다 최대 %(longest)s개, 잘린 행 %(cut)s개, 모르는 토큰 %(unknown)s"
    ),
    "hardware": "하드웨어",
    "%(processes)s process(es) on %(device)s (%(hardware)s), %(precision)s": (
        "프로세스 %(processes)s개, %(device)s (%(hardware)s), %(precision)s"
    ),
    "versions": "버전",
    "The whole configuration": "전체 설정",
    # A run: what to mind.
    "At chance: the dense model has validation accuracy {dense:.4f}, and the most frequent label "
    "alone {majority:.4f}. What pruning costs cannot be told from this run; train round 0 longer "
    "(finetune.dense_epochs), or at another finetune.dense_learning_rate.": (
        "찍는 수준입니다: 원본(dense) 모델의 검증 정확도가 {dense:.4f}이고, 가장 흔한 라벨만 "
        "답해도 "
        "{majority:.4f}입니다. 이 실행으로는 프루닝의 비용을 알 수 없습니다. 라운드 0을 더 오래 "
        "(finetune.dense_epochs) 또는 다른 finetune.dense_learning_rate로 학습하세요."
    ),
    "Few validation rows: {rows:,} of them know an accuracy to ± {points:.1f} points, so a loss "
    "of "
    "less cannot be told from chance.": (
        "검증 데이터가 적습니다: {rows:,}행으로는 정확도를 ±{points:.1f}%p까지만 알 수 있어, "
        "그보다 작은 "
        "손실은 우연과 구별되지 않습니다."
    ),
    "Validation ({validation:.4f}) and test ({test:.4f}) are further apart than chance explains: "
    "their rows differ in kind.": (
        "검증({validation:.4f})과 테스트({test:.4f})의 차이가 우연으로 보기에는 큽니다: 두 "
        "데이터의 "
        "성격이 다릅니다."
    ),
    "Only {share:.0%} of the model's parameters are prunable, so its model sparsity stays below "
    "that; prune.scope takes more, such as [encoder,embeddings].": (
        "모델 파라미터의 {share:.0%}만 프루닝 대상이어서 모델 희소도는 그 아래에 머뭅니다. "
        "prune.scope를 [encoder,embeddings]처럼 넓힐 수 있습니다."
    ),
    # A sweep.
    "Sweep of %(count)s points": "스윕: %(count)s개 지점",
    "settings": "설정",
    "seeds": "시드 수",
    "%(done)s done.": "%(done)s개를 마쳤습니다.",
    "In common:": "공통 설정:",
    "Not done": "마치지 못한 것",
    "exit code": "종료 코드",
    "The same command in the same folder skips what is done and goes on with the rest.": (
        "같은 폴더에서 같은 명령을 실행하면 마친 것은 건너뛰고 나머지를 이어 합니다."
    ),
    "Best within 1 point": "1%%p 이내에서 가장 희소한 것",
    "%(label)s goes furthest: %(share)s of the prunable weights, %(model)s of the whole model, in "
    "round %(round)s.": (
        "%(label)s이(가) 가장 멀리 갑니다: 프루닝 대상의 %(share)s, 모델 전체의 %(model)s, 라운드 "
        "%(round)s."
    ),
    "Validation decides; test is measured. A setting is judged by the mean of its seeds, against "
    "its "
    "own dense model.": (
        "검증 데이터로 정하고 테스트는 재기만 합니다. 설정마다 시드 평균을 자신의 원본(dense) "
        "모델과 "
        "비교합니다."
    ),
    "No setting has a round that all its seeds have finished.": (
        "모든 시드가 마친 라운드가 있는 설정이 없습니다."
    ),
    "At equal sparsity": "같은 희소도에서",
    "Points of validation accuracy against dense, at the first round that is at least so sparse; "
    "in "
    "brackets how sparse that is. Nothing is interpolated.": (
        "원본 대비 검증 정확도의 차이(%%p). 그 희소도에 처음 이른 라운드의 값이고 괄호는 실제 "
        "희소도"
        "입니다. 보간하지 않았습니다."
    ),
    "A line is the mean over its seeds, with the standard deviation as bars and the seeds "
    "themselves "
    "faint behind it. Rings mark the Pareto front: nothing else on the same data is at least as "
    "sparse and at least as accurate. Point at a mark, or tap it, for its values.": (
        "선은 시드 평균, 막대는 표준편차이고 흐린 선은 각 시드입니다. 고리는 파레토 경계로, 같은 "
        "데이터에서 "
        "더 희소하면서 정확도도 같거나 높은 것이 없다는 뜻입니다. 점을 가리키거나 누르면 값이 "
        "보입니다."
    ),
    "The points prune different matrices, so sparsity is that of the whole model.": (
        "지점마다 프루닝하는 행렬이 달라, 희소도는 모델 전체의 것입니다."
    ),
    "After the last round": "마지막 라운드 뒤",
    "The Pareto front": "파레토 경계",
    "Points": "지점",
    "point": "지점",
    "state": "상태",
    "{label}, round {round}: {sparsity:.2%} sparse, accuracy {accuracy}": (
        "{label}, 라운드 {round}: 희소도 {sparsity:.2%}, 정확도 {accuracy}"
    ),
    "model sparsity (%)": "모델 희소도(%)",
    "Pareto front": "파레토 경계",
}
