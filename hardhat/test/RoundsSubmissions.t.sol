// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRounds} from "../contracts/IRounds.sol";
import {Submissions} from "../contracts/Submissions.sol";
import {VM} from "./Cheats.sol";
import {RoundsFixture} from "./RoundsFixture.sol";

/// @dev What an organization may commit to, and when, directly and by its signature.
contract RoundsSubmissionsTest is RoundsFixture {
    function setUp() public override {
        super.setUp();
        _open(1);
    }

    function testFuzz_TheDigestIsThatOfEip712(Submissions.ModelUpdate memory update) public view {
        assert(_rounds.updateDigest(update) == _digestOf(update));
    }

    function test_AnUpdateSentByItsOrganizationsKeyIsKept() public {
        Submissions.ModelUpdate memory update = _update(0, 1);
        assert(_rounds.submissionOf(_task, 1, _org(0)) == 0);
        VM.expectEmit();
        emit Submissions.UpdateSubmitted(_task, 1, _org(0), _digestOf(update));
        VM.prank(_key(0));
        _rounds.submitDirect(update);
        assert(_rounds.submissionOf(_task, 1, _org(0)) == _digestOf(update));
        assert(_rounds.submissionOf(_task, 2, _org(0)) == 0);
        assert(_rounds.submissionOf(_task, 1, _org(1)) == 0);
    }

    function test_AnUpdateSignedByItsOrganizationIsBroughtByAnyone() public {
        Submissions.ModelUpdate memory update = _update(3, 1);
        bytes memory signature = _signed(_secret(3), _digestOf(update));
        VM.expectEmit();
        emit Submissions.UpdateSubmitted(_task, 1, _org(3), _digestOf(update));
        VM.prank(_STRANGER);
        _rounds.submitBySig(update, signature);
        assert(_rounds.submissionOf(_task, 1, _org(3)) == _digestOf(update));
    }

    function test_AllOrganizationsSubmitToOneRound() public {
        for (uint256 i = 0; i < _COUNT; ++i) {
            Submissions.ModelUpdate memory update = _update(i, 1);
            _rounds.submitBySig(update, _signed(_secret(i), _digestOf(update)));
            assert(_rounds.submissionOf(_task, 1, _org(i)) == _digestOf(update));
        }
    }

    function test_SubmitDirectRefusesEverySenderButTheOrganizationsKey() public {
        address[4] memory senders = [_STRANGER, _lead, _key(1), address(this)];
        for (uint256 i = 0; i < senders.length; ++i) {
            _refuses(
                senders[i],
                abi.encodeCall(_rounds.submitDirect, (_update(0, 1))),
                abi.encodeWithSelector(
                    Submissions.SubmissionsWrongSigner.selector, _org(0), senders[i], _key(0)
                )
            );
        }
    }

    function test_AnOrganizationThatIsNoMemberSubmitsNothing() public {
        _refusedBoth(
            _update(9, 1), 9, abi.encodeWithSelector(Submissions.SubmissionsNoKey.selector, _org(9))
        );
    }

    function test_AMalformedSignatureIsNotTheKeyOfAStranger() public {
        // Both the signer of a malformed signature and the key of a stranger are zero.
        bytes memory none = abi.encodeWithSelector(Submissions.SubmissionsNoKey.selector, _org(9));
        _refuses(_STRANGER, abi.encodeCall(_rounds.submitBySig, (_update(9, 1), "")), none);
    }

    function test_AnOrganizationThatLeftSubmitsNothing() public {
        _executed(_removal(3, 3));
        _refusedBoth(
            _update(3, 1), 3, abi.encodeWithSelector(Submissions.SubmissionsNoKey.selector, _org(3))
        );
    }

    function test_ASubmissionOutlastsTheMembership() public {
        Submissions.ModelUpdate memory update = _update(3, 1);
        VM.prank(_key(3));
        _rounds.submitDirect(update);
        _executed(_removal(3, 3));
        assert(_rounds.submissionOf(_task, 1, _org(3)) == _digestOf(update));
    }

    function test_OnlyAnOpenRoundTakesUpdates() public {
        _refusedInPhase(2);
        _seal(1);
        _refusedInPhase(1);
        _finalize(1);
        _refusedInPhase(1);
        _open(2);
        _void(2);
        _refusedInPhase(2);
        _disputed(3);
        _refusedInPhase(3);
    }

    function test_AnUpdateOfAnUnknownTaskIsRefused() public {
        Submissions.ModelUpdate memory update = _update(0, 1);
        update.task = "nobody";
        _refusedBoth(
            update,
            0,
            abi.encodeWithSignature(
                "RoundsUnexpectedPhase(bytes32,uint64,uint8,uint8)",
                update.task,
                1,
                IRounds.Phase.None,
                IRounds.Phase.Open
            )
        );
    }

    function test_AnUpdateOfAnotherParentIsRefused() public {
        _seal(1);
        _open(2);
        Submissions.ModelUpdate memory update = _update(0, 2);
        update.parentAdapter = _GENESIS;
        bytes4 selector = Submissions.SubmissionsWrongParent.selector;
        _refusedBoth(
            update, 0, abi.encodeWithSelector(selector, _task, 2, _GENESIS, _adapter(1))
        );
        update.parentAdapter = _adapter(1);
        VM.prank(_key(0));
        _rounds.submitDirect(update);
    }

    function test_AnUpdateUnderOtherTermsIsRefused() public {
        Submissions.ModelUpdate memory update = _update(0, 1);
        update.terms = "other";
        bytes4 selector = Submissions.SubmissionsWrongTerms.selector;
        _refusedBoth(
            update, 0, abi.encodeWithSelector(selector, _task, bytes32("other"), _TERMS)
        );
    }

    function test_AnUpdateWithoutACommitmentIsRefused() public {
        Submissions.ModelUpdate memory update = _update(0, 1);
        update.commitment = 0;
        bytes4 selector = Submissions.SubmissionsZeroCommitment.selector;
        _refusedBoth(update, 0, abi.encodeWithSelector(selector, _task, 1, _org(0)));
    }

    function test_AnUpdateIsTakenUpToItsDeadlineAndNoLonger() public {
        Submissions.ModelUpdate memory update = _update(0, 1);
        VM.warp(uint256(update.deadline) + 1);
        bytes4 selector = Submissions.SubmissionsExpired.selector;
        _refusedBoth(
            update, 0, abi.encodeWithSelector(selector, update.deadline, update.deadline + 1)
        );
        VM.warp(update.deadline);
        VM.prank(_key(0));
        _rounds.submitDirect(update);
    }

    function test_AnOrganizationCommitsOnceToARound() public {
        Submissions.ModelUpdate memory first = _update(0, 1);
        VM.prank(_key(0));
        _rounds.submitDirect(first);
        Submissions.ModelUpdate memory second = _update(0, 1);
        second.commitment = "other";
        bytes32 kept = _digestOf(first);
        bytes4 selector = Submissions.SubmissionsAlreadySubmitted.selector;
        _refusedBoth(
            first, 0, abi.encodeWithSelector(selector, _task, 1, _org(0), kept, kept)
        );
        _refusedBoth(
            second, 0, abi.encodeWithSelector(selector, _task, 1, _org(0), kept, _digestOf(second))
        );
        assert(_rounds.submissionOf(_task, 1, _org(0)) == kept);
    }

    function test_AnOrganizationCommitsOnceToEachRound() public {
        Submissions.ModelUpdate memory update = _update(0, 1);
        VM.prank(_key(0));
        _rounds.submitDirect(update);
        _void(1);
        _open(2);
        update = _update(0, 2);
        VM.prank(_key(0));
        _rounds.submitDirect(update);
        assert(_rounds.submissionOf(_task, 2, _org(0)) == _digestOf(update));
    }

    /// @dev Refused however it is brought: sent by the organization, or signed by it.
    function _refusedBoth(
        Submissions.ModelUpdate memory update,
        uint256 number,
        bytes memory reason
    ) private {
        bytes memory signature = _signed(_secret(number), _digestOf(update));
        _refuses(_key(number), abi.encodeCall(_rounds.submitDirect, (update)), reason);
        _refuses(_STRANGER, abi.encodeCall(_rounds.submitBySig, (update, signature)), reason);
    }

    function _refusedInPhase(uint64 round) private {
        bytes memory call = abi.encodeCall(_rounds.submitDirect, (_update(0, round)));
        _refusesPhase(_key(0), 0, call, round, IRounds.Phase.Open);
    }
}
